"""`mlflow server` as a process: registry and artifacts over HTTP, and the UI in which people move aliases."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.mlflow_store import fresh_store
from tests.serving.ports import free_port

MLFLOW = str(Path(sys.executable).parent / "mlflow")


class MlflowServer:
    """A tracking server with registry and artifact store of its own; it can be stopped and started again.

    Args:
        folder: where it keeps everything.
        artifacts: where it keeps artifacts, if not there.
        environment: of its process alone.
        workers: of its process.
    """

    def __init__(
        self, folder: Path, artifacts: str = "", environment: Mapping[str, str] | None = None, workers: int = 1
    ) -> None:
        self._folder = folder
        self._artifacts = artifacts or (folder / "artifacts").as_uri()
        self._environment = dict(environment or {})
        self._workers = workers
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it answers."""
        self._process = subprocess.Popen(
            [
                MLFLOW,
                "server",
                f"--backend-store-uri={fresh_store(self._folder)}",
                f"--artifacts-destination={self._artifacts}",
                "--host=127.0.0.1",
                f"--port={self._port}",
                f"--workers={self._workers}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                **self._environment,
            },
            start_new_session=True,
        )
        ends = time.monotonic() + 120
        while not self._answers():
            assert time.monotonic() < ends and self._process.poll() is None, "mlflow server does not start"
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop it and the workers that it started."""
        if self._process is not None:
            os.killpg(self._process.pid, 15)
            self._process.wait(60)
            self._process = None

    def cpu_seconds(self) -> float:
        """CPU time of the server and its workers so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
                return int(response.status) == 200
        except (urllib.error.URLError, OSError):
            return False
