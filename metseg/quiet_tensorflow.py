"""Import TensorFlow without the lines that it prints despite `TF_CPP_MIN_LOG_LEVEL`.

Its libraries log while they are loaded, before they know their level; one such line warns of round-off errors, and
Kubeflow's UI shows it in red in a successful step.
"""

from __future__ import annotations

import os
import subprocess
import sys

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


def import_tensorflow() -> None:
    """Import TensorFlow and drop its libraries' log lines below `TF_CPP_MIN_LOG_LEVEL`."""
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0")
    if "tensorflow" in sys.modules or level not in ("1", "2", "3"):
        return
    sys.stderr.flush()
    own = os.dup(2)
    try:
        with subprocess.Popen([sys.executable, "-S", "-c", FILTER, level], stdin=subprocess.PIPE) as passing:
            assert passing.stdin is not None
            os.dup2(passing.stdin.fileno(), 2)
            passing.stdin.close()
            try:
                import tensorflow  # noqa: F401
            finally:
                os.dup2(own, 2)  # the last end of the pipe: the process ends
    finally:
        os.close(own)
