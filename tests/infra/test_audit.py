"""`make audit` compares the locks with advisories, and says so where no service has any."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from tests.conftest import ROOT
from tests.serving.ports import free_port

AUDIT = ROOT / "infra" / "audit.py"
UV = Path(sys.executable).with_name("uv")
DISKCACHE = {
    "id": "GHSA-w8v5-vhqr-4h9v", "aliases": ["CVE-2025-69872"], "summary": None, "withdrawn": None, "fixed_in": [],
    "details": "DiskCache uses Python pickle for serialization by default.", "source": "osv",
}  # fmt: skip
WITHDRAWN = {**DISKCACHE, "id": "GHSA-0000-0000-0000", "aliases": [], "withdrawn": "2026-01-01T00:00:00Z"}
NEW = {**DISKCACHE, "id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "summary": "It is new."}


class Service(BaseHTTPRequestHandler):
    """The JSON API of a package index, and OSV's query, in the shapes of PyPI and OSV."""

    advisories: ClassVar[dict[str, list[dict[str, object]]]] = {}

    def do_GET(self) -> None:
        name = self.path.split("/")[2]
        urls = [{"upload_time_iso_8601": f"2023-0{month}-31T06:12:01.000000Z"} for month in (8, 7)]
        self._send({"info": {"name": name}, "urls": urls, "vulnerabilities": self.advisories.get(name, [])})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        listed = self.advisories.get(asked["package"]["name"], [])
        self._send({"vulns": [{**one, "affected": []} for one in listed]} if listed else {})

    def _send(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(Service, "advisories", {})
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def lock(tmp_path) -> Path:
    pins = ("diskcache==5.6.3", f"numpy=={version('numpy')}", "not-installed==1.0")
    (tmp_path / "a.lock").write_text("".join(f"{pin} \\\n    --hash=sha256:00\n    # via dvc\n" for pin in pins))
    return tmp_path / "a.lock"


def audit(lock: Path, index: str, osv: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PIP_INDEX_URL": f"{index}/simple/", "PIP_AUDIT_VULNERABILITY_SERVICE": "osv",
        "PIP_AUDIT_OSV_URL": osv, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
    }  # fmt: skip
    command = [sys.executable, str(AUDIT), str(lock)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def pip_audit() -> None:
    """pip-audit by uv, which fetches it once."""
    asked = [str(UV), "tool", "run", "pip-audit@2.10.1", "--version"]
    if not UV.exists() or subprocess.run(asked, capture_output=True, timeout=300).returncode:
        pytest.skip("pip-audit cannot be fetched here")


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("through", ["pip-audit", "the index"])
@pytest.mark.parametrize(
    ("advisories", "code", "printed"),
    [
        ({}, 0, "3 of 3 packages audited, 0 new advisories"),
        ({"diskcache": [DISKCACHE, WITHDRAWN]}, 0, "known: diskcache 5.6.3 "),
        ({"diskcache": [DISKCACHE, NEW]}, 1, "NEW: diskcache 5.6.3 PYSEC-2026-1 CVE-2026-1: It is new."),
        ({"numpy": [DISKCACHE]}, 1, f"NEW: numpy {version('numpy')} "),
    ],
)
def test_an_advisory_fails_unless_it_is_known(service, lock, monkeypatch, request, through, advisories, code, printed):
    monkeypatch.setattr(Service, "advisories", advisories)
    if through == "pip-audit":
        request.getfixturevalue("pip_audit")
        done = audit(lock, nowhere(), service)
    else:
        done = audit(lock, service, nowhere())
    assert done.returncode == code, done.stdout + done.stderr
    assert printed in done.stdout and "GHSA-0000" not in done.stdout


def test_licences_and_release_dates_are_listed(service, lock):
    lines = audit(lock, service, nowhere()).stdout.splitlines()
    rows = {line.split()[0]: line.split(maxsplit=3) for line in lines if line.count("  ") > 2}
    assert rows["diskcache"][1:] == ["5.6.3", "2023-07-31", "Apache 2.0"]
    assert rows["numpy"][2] == "2023-07-31" and "BSD" in rows["numpy"][3]
    assert rows["not-installed"][1:] == ["1.0", "2023-07-31", "not installed here"]


def test_without_a_service_it_says_so_and_still_lists(lock):
    done = audit(lock, nowhere(), nowhere())
    assert done.returncode == 2 and "not audited" in done.stdout and "Traceback" not in done.stderr
    assert "unknown      Apache 2.0" in done.stdout


def test_every_lock_is_audited():
    listed = subprocess.run(["git", "ls-files", "*.lock"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "infra/audit.py" in line]
    named = {path.relative_to(ROOT).as_posix() for word in line.split() if ".lock" in word for path in ROOT.glob(word)}
    assert not listed or set(listed) == named


def test_a_known_advisory_has_reason_and_date_and_is_of_a_pinned_package():
    pins = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for entry in tomllib.loads((ROOT / "infra" / "advisories.toml").read_text(encoding="utf-8"))["advisory"]:
        assert set(entry) == {"package", "version", "id", "date", "reason"} and entry["reason"]
        assert f"\n{entry['package']}=={entry['version']} " in pins, "remove the advisory with its package"
