"""Import TensorFlow without unused packages and without lines that it prints despite `TF_CPP_MIN_LOG_LEVEL`.

Its libraries log while they are loaded, before they know their level; one such line warns of round-off errors, and
Kubeflow's UI shows it in red in a successful step.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from metseg.child_environment import child_environment

FILTER = """
import re, sys
level = int(sys.argv[1])
for line in sys.stdin:
    severity = re.match(r"([IWEF])\\d{4} |(WARNING): All log messages before absl", line)
    if severity is None or (severity[1] and "IWEF".index(severity[1]) >= level):
        sys.stderr.write(line)
        sys.stderr.flush()
"""
"""A process of its own, so that the last words of one that is aborted are passed on."""


UNUSED = ("jax", "matplotlib", "pandas", "sklearn")
"""Optional packages that TensorFlow and Keras import for functions that are not used here.

They take 40 % of the time of TensorFlow's import, and 250 MB.
"""
_IMPORTING = threading.Lock()


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """Hide packages that are not imported yet, as if they were not installed."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: Python takes it for an absent module
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def import_tensorflow() -> None:
    """Import TensorFlow without unused packages; drop its libraries' log lines below `TF_CPP_MIN_LOG_LEVEL`."""
    with _IMPORTING:
        if "tensorflow" in sys.modules:
            return
        with _without(UNUSED), _filtered_log(os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0")):
            import tensorflow  # noqa: F401


@contextmanager
def _filtered_log(level: str) -> Iterator[None]:
    """Drop lines below a level that libraries log on standard error."""
    if level not in ("1", "2", "3"):
        yield
        return
    sys.stderr.flush()
    own = os.dup(2)
    try:
        command = [sys.executable, "-S", "-c", FILTER, level]
        with subprocess.Popen(command, env=child_environment(), stdin=subprocess.PIPE) as passing:
            assert passing.stdin is not None
            os.dup2(passing.stdin.fileno(), 2)
            passing.stdin.close()
            try:
                yield
            finally:
                os.dup2(own, 2)  # the last end of the pipe: the process ends
    finally:
        os.close(own)
