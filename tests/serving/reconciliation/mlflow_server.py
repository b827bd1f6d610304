"""`mlflow server` as a process: registry and artifacts over HTTP, and the UI in which people move aliases."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.serving.ports import free_port

MLFLOW = str(Path(sys.executable).parent / "mlflow")


class MlflowServer:
    """A tracking server with registry and artifact store of its own; it can be stopped and started again.

    Args:
        folder: where it keeps everything.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it answers."""
        self._process = subprocess.Popen(
            [
                MLFLOW,
                "server",
                f"--backend-store-uri=sqlite:///{self._folder}/mlflow.db",
                f"--artifacts-destination={(self._folder / 'artifacts').as_uri()}",
                "--host=127.0.0.1",
                f"--port={self._port}",
                "--workers=1",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
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

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
                return int(response.status) == 200
        except (urllib.error.URLError, OSError):
            return False
