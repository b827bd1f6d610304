"""Who may use the viewer, and that neither the page nor its server asks anything of another host."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serving.conftest import MODEL
from tests.serving.hostile.volley import raw
from tests.serving.viewer.conftest import CHANNELS
from tests.serving.viewer.viewers import CHROMIUM, start_viewer

NAME = "[a](b) $x^2$ **c** :red[d] `e` ~~f~~ <b>g #h _i_ &amp;"
"""A sample whose name is Markdown."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A server that is neither the viewer nor the model server, and what is asked of it; it is also a proxy."""
    asked: list[str] = []

    class Recorder(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_CONNECT = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


@dataclass
class Viewer:
    """A running viewer, open to other machines."""

    base: str
    log: Path
    asked: list[str]

    @property
    def port(self) -> int:
        return urlsplit(self.base).port or 0


@pytest.fixture(scope="module")
def viewer(
    two_models: Any, study_files: dict[str, Path], elsewhere: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Viewer]:
    """Its registry has a card with pictures from elsewhere, and every request of its server beyond loopback is seen."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("viewer")
    (folder / "var").mkdir()
    registry = MlflowClient(f"sqlite:///{folder}/var/mlflow.db", f"sqlite:///{folder}/var/mlflow.db")
    registry.create_registered_model(MODEL)
    picture, asked = f"![x]({elsewhere[0]}/picture.png)", elsewhere[1]
    card = f"the card {picture} <img src='{elsewhere[0]}/raw.png'>"
    registry.create_model_version(MODEL, "file:///none", description=card, tags={"note": picture})
    (folder / "samples").mkdir()
    for name in CHANNELS:
        (folder / "samples" / f"{NAME}-{name}.nii.gz").write_bytes(study_files[name].read_bytes())
    proxy = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), elsewhere[0])
    direct = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    # Outside of the image: there MLflow reads no SQLite.
    direct["PYTHON_HIDDEN_MODULES"] = "{}"
    more = {"METSEG_WORKSPACE": str(folder), "METSEG_VIEWER_HOSTS": "viewer.example.org"}
    arguments = ["--host", "0.0.0.0", "--samples", str(folder / "samples")]
    process, base = start_viewer(two_models.address, folder, *arguments, **proxy, **direct, **more)
    yield Viewer(base, folder / "log", asked)
    process.terminate()
    process.wait(20)


WEB_SOCKETS = [
    ("127.0.0.1:{port}", "http://127.0.0.1:{port}", 101),
    ("localhost:{port}", "http://localhost:{port}", 101),
    ("viewer.example.org", "https://viewer.example.org", 101),
    ("evil.example:{port}", "http://evil.example:{port}", 403),
    ("evil.example", "https://viewer.example.org", 403),
    ("127.0.0.1:{port}", "http://evil.example:{port}", 403),
    ("127.0.0.1:{port}", "http://localhost:1", 403),
    ("127.0.0.1:{port}", "null", 403),
]


@pytest.mark.parametrize("host, origin, right", WEB_SOCKETS)
def test_web_sockets_are_for_the_viewers_own_page(viewer: Viewer, host: str, origin: str, right: int) -> None:
    lines = [
        "GET /_stcore/stream HTTP/1.1",
        f"Host: {host.format(port=viewer.port)}",
        f"Origin: {origin.format(port=viewer.port)}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    assert raw("127.0.0.1", viewer.port, "\r\n".join([*lines, "", ""]).encode()) == right
    assert viewer.asked == [], "Streamlit would ask for this machine's address to compare the origin with"


@pytest.mark.parametrize(
    "method, path, headers, right",
    [
        ("GET", "/", {}, 200),
        ("GET", "/", {"Host": "viewer.example.org"}, 200),
        ("GET", "/", {"Host": "evil.example"}, 421),
        ("GET", "/_stcore/health", {"Host": "10.1.2.3:8502"}, 200),  # as a probe of Kubernetes
        ("GET", "/_stcore/host-config", {"Host": "evil.example"}, 421),
        ("GET", "/media/x", {"Host": "evil.example"}, 421),
        ("PUT", "/_stcore/upload_file/x/y", {"Host": "evil.example"}, 421),
        ("PUT", "/_stcore/upload_file/x/y", {"Origin": "http://evil.example"}, 403),
        ("DELETE", "/_stcore/upload_file/x/y", {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_requests_of_other_sites_are_refused(
    viewer: Viewer, method: str, path: str, headers: dict[str, str], right: int
) -> None:
    answer = httpx.request(method, viewer.base + path, headers=headers, trust_env=False)
    assert answer.status_code == right
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ") and "http" not in policy and "*" not in policy


def test_a_viewer_open_to_others_says_so_and_asks_no_one_for_its_address(viewer: Viewer) -> None:
    log = viewer.log.read_text(encoding="utf-8")
    assert "warning: --host 0.0.0.0" in log and "no login" in log and "METSEG_VIEWER_HOSTS" in log
    assert viewer.asked == []


@pytest.fixture(scope="module")
def page(viewer: Viewer) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.skip("no browser: install Debian's chromium, or name one by METSEG_CHROMIUM")
    with sync_playwright() as playwright:
        rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", rules])
        opened = browser.new_page(viewport={"width": 1400, "height": 1100})
        opened.set_default_timeout(60_000)
        yield opened
        browser.close()


def test_a_name_that_leads_here_shows_no_page(viewer: Viewer, page: Any) -> None:
    answer = page.goto(f"http://evil.example:{viewer.port}/")
    assert answer.status == 421 and "evil" not in page.locator("body").inner_text()


def test_names_are_text_and_pictures_of_a_card_are_not_loaded(viewer: Viewer, page: Any) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(viewer.base)
    page.get_by_role("combobox", name="Sample").click()
    page.get_by_role("option", name=NAME, exact=True).click()
    page.locator("tr[data-lesion]").first.wait_for()
    heading = page.locator("h4")
    assert heading.inner_text() == NAME
    assert heading.locator("a:not([href^='#']), .katex, strong, em, code, del, b, [style*=color]").count() == 0
    assert not [text for text in complaints if "Content Security Policy" in text], "the page itself needs nothing more"
    page.get_by_role("tab", name="Model").click()
    page.get_by_text("Registry's model card").first.click()
    page.get_by_text("the card").wait_for()
    page.get_by_text("picture.png").first.wait_for()
    page.wait_for_timeout(2000)
    assert viewer.asked == []
