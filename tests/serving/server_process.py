"""Commands of metseg as processes: what they say, and a model server that can be killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.serving.ports import free_port

METSEG = str(Path(sys.executable).parent / "metseg")
_START_SECONDS = 120.0


class Said:
    """What a process says, line by line, as it says it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self.process = process
        self._more = threading.Condition()
        self._read = 0
        self._ended = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self.lines.append(line.rstrip())
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def until(self, text: str, seconds: float = 60) -> str:
        """The next line that holds a text; what was asked for before is past."""
        with self._more:
            ends = time.monotonic() + seconds
            while True:
                while self._read < len(self.lines):
                    self._read += 1
                    if text in self.lines[self._read - 1]:
                        return self.lines[self._read - 1]
                left = ends - time.monotonic()
                assert left > 0 and not self._ended, f"{text!r} was not said in {seconds:g} s: {self.lines}"
                self._more.wait(left)


class ServerProcess:
    """`metseg serve`, as a process that can be killed and started again at the same address; a context starts it.

    Args:
        config: its `models.config`.
        flags: more of its command line.

    Attributes:
        address: `host:port` of its gRPC API.
    """

    def __init__(self, config: Path, *flags: str) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._command = [
            METSEG,
            "serve",
            f"--port={port}",
            f"--model_config_file={config}",
            "--allow_version_labels_for_unavailable_models=true",
            "--max_num_load_retries=0",
            *flags,
        ]
        self._said: Said | None = None

    @property
    def said(self) -> Said:
        """What it says, and its process."""
        assert self._said is not None, "the server was not started"
        return self._said

    def start(self) -> None:
        """Start it; returns when it answers."""
        process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        self._said = Said(process)
        self._said.until("serving gRPC at", _START_SECONDS)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        self.kill()
        self.start()

    def _end(self, number: int) -> None:
        self.said.process.send_signal(number)
        self.said.process.wait(60)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
