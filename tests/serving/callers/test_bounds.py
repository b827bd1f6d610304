"""What one caller of the gateway cannot take from others, and what no page of another site gets."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.processes import Memory
from tests.serving.callers.conftest import write_head
from tests.serving.callers.gateways import files_of, gateway
from tests.serving.callers.hostile import BOUNDARY, MULTIPART, ROUTE, slow_sender
from tests.serving.hostile.volley import dribble


def test_slow_senders_of_one_key_keep_no_other_key_waiting(address: str, tmp_path: Path) -> None:
    slow, quick = "first-key-0123456789", "second-key-0123456789"
    more = {"api_keys": f"{slow},{quick}", "patience_seconds": 60, "slowest_rate": 1, "queue": 8}
    with gateway(address, tmp_path, **more) as shut, shut.http() as http, ExitStack() as lines:
        for _ in range(20):
            lines.enter_context(closing(slow_sender(shut.base, slow)))
        time.sleep(1)
        files = files_of(write_head(tmp_path / "in"))
        assert http.post(ROUTE, files=files, headers={"X-API-Key": slow}).status_code == 429
        began = time.monotonic()
        answer = http.post(f"{ROUTE}?wait=30", files=files, headers={"X-API-Key": quick})
        assert answer.status_code == 200 and answer.json()["state"] == "done"
        assert time.monotonic() - began < 5


def test_an_upload_ends_in_time_however_steadily_it_comes(address: str, tmp_path: Path) -> None:
    with gateway(address, tmp_path, upload_seconds=2, patience_seconds=60, slowest_rate=1) as running:
        began = time.monotonic()
        with closing(slow_sender(running.base)) as line:
            dribble(line, b"x" * 500, pause=0.1)
            assert line.recv(100).startswith(b"HTTP/1.1 408 ")
        assert 1.5 < time.monotonic() - began < 10


def test_fields_and_headers_of_parts_take_no_memory(address: str, tmp_path: Path) -> None:
    """160 MB of them took 3.9 GB."""
    with gateway(address, tmp_path, upload_mb=128) as running, running.http() as http:
        memory = Memory(running.process.pid)
        memory.forget_peak()
        before = memory.resident_mb()
        names = b",".join(b"%03x" % number for number in range(1000))
        for content in (names, b"", b"a" * 30_000):
            part = (
                f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="channels"\r\n\r\n'.encode() + content + b"\r\n"
            )
            body = part * ((64 << 20) // len(part)) + f"--{BOUNDARY}--\r\n".encode()
            assert http.post(ROUTE, content=body, headers={"Content-Type": MULTIPART}).status_code == 413
        assert memory.peak_mb() - before < 50


def test_a_page_of_another_site_is_refused(address: str, tmp_path: Path) -> None:
    """As after DNS rebinding, and by a form (CSRF); the gateway needs no key."""
    with gateway(address, tmp_path, hosts="gateway.example.org") as running, running.http() as http:
        files = files_of(write_head(tmp_path / "in"))
        job = http.post(f"{ROUTE}?wait=30", files=files, headers={"Origin": running.base}).json()
        mask = job["results"]["mask.nii.gz"]["href"]
        for path in ("/", "/docs", "/healthz", mask):
            answer = http.get(path, headers={"Host": "evil.example"})
            assert answer.status_code == 421 and "METSEG_GATEWAY_HOSTS" in answer.json()["detail"]
            assert http.get(path, headers={"Host": "gateway.example.org"}).status_code == 200
        foreign = {"Origin": "http://evil.example"}
        assert http.post(ROUTE, files=files, headers=foreign).status_code == 403
        assert http.delete(f"{ROUTE}/{job['id']}", headers=foreign).status_code == 403
        assert "access-control-allow-origin" not in http.get(mask, headers=foreign).headers
        assert [path.name for path in running.folder.iterdir()] == [job["id"]]
