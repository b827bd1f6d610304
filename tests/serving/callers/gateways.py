"""A gateway as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.image_packages import as_in_image
from tests.serving.callers.hostile import Limits
from tests.serving.callers.models import MODEL

LIMITS = Limits(upload_bytes=4 << 20, voxels=1 << 20, patience_seconds=2.0)
KEY = "a key of the tests, long enough"


@dataclass
class Gateway:
    """A running `metseg api`."""

    base: str
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]

    def http(self, **more: object) -> httpx.Client:
        return httpx.Client(base_url=self.base, timeout=60, trust_env=False, **more)  # type: ignore[arg-type]

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def files_of(paths: list[Path]) -> list[tuple[str, tuple[str, bytes]]]:
    """The files of an upload, for httpx."""
    return [("files", (path.name, path.read_bytes())) for path in paths]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def gateway(address: str, folder: Path, **settings: object) -> Iterator[Gateway]:
    """`metseg api` in front of the model server at `address`; settings are `METSEG_GATEWAY_…` in small letters."""
    folder.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), folder / "gateway.log"
    given = {
        "upload_mb": LIMITS.upload_bytes / 2**20,
        "voxels": LIMITS.voxels,
        "patience_seconds": LIMITS.patience_seconds,
        "slowest_rate": 1e5,
        **settings,
    }
    environment = {
        **os.environ,
        **as_in_image("serve"),
        "METSEG_PSEUDONYM_KEY": KEY,
        **{f"METSEG_GATEWAY_{name.upper()}": str(value) for name, value in given.items() if name != "api_keys"},
        "METSEG_API_KEYS": str(settings.get("api_keys", "")),
    }
    command = [sys.executable, "-m", "metseg.cli", "api", "--port", str(port), "--server", address]
    command = [sys.executable, "-c", "from metseg.cli import main; main()", *command[3:]]
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*command, "--model-name", MODEL, "--folder", str(folder / "jobs")], env=environment, stdout=out, stderr=out
        )
    try:
        base = f"http://127.0.0.1:{port}"
        ends = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{base}/healthz", trust_env=False)
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > ends:
                    raise RuntimeError(log.read_text(encoding="utf-8")) from None
                time.sleep(0.1)
        yield Gateway(base, folder / "jobs", log, process)
    finally:
        process.kill()
        process.wait()
