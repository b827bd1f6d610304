"""Measurements in processes of their own.

Libraries and memory of one measurement must not count for the next.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process.

    `ru_maxrss` would count that of the parent process.
    """
    return Memory(os.getpid()).peak_mb()


class Memory:
    """Return the resident memory of a child process."""

    def __init__(self, process: int) -> None:
        self._folder = Path(f"/proc/{process}")

    def resident_mb(self) -> float:
        """Now."""
        return self._megabytes("VmRSS")

    def peak_mb(self) -> float:
        """The most since it began, or since `forget_peak`."""
        return self._megabytes("VmHWM")

    def forget_peak(self) -> None:
        """Let the peak be what is resident now (proc_pid_clear_refs(5), value 5)."""
        (self._folder / "clear_refs").write_text("5", encoding="ascii")

    def _megabytes(self, field: str) -> float:
        status = (self._folder / "status").read_text(encoding="utf-8")
        return int(next(line for line in status.splitlines() if line.startswith(f"{field}:")).split()[1]) / 1024


def free_port() -> int:
    """Return a free TCP port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answered(module: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON object that `python -m module …` prints as its last line.

    Raises:
        RuntimeError: the process failed; the message ends with its last lines.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, text=True)
    if done.returncode:
        errors = "\n".join(done.stderr.splitlines()[-8:])
        raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}:\n{errors}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]
