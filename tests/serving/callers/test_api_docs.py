"""The gateway's Swagger UI in a real browser: nothing comes from another host, and its examples run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.serving.callers.gateways import Gateway, gateway

KEY = "a-key-of-the-tests-0123456789"


@pytest.fixture(scope="module")
def running(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(address, tmp_path_factory.mktemp("gateway"), api_keys=KEY) as started:
        yield started


class Opened:
    """A page in a browser, with its requests and the browser's complaints."""

    def __init__(self, browser, address: str) -> None:
        self.page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.page.locator("#operations-segmentations-create").wait_for()

    def operation(self, name: str, tag: str = "segmentations"):
        block = self.page.locator(f"#operations-{tag}-{name}")
        if block.locator(".execute").count() == 0:
            block.locator(".opblock-summary-control").click()
        block.locator(".execute").wait_for()
        return block

    def execute(self, block) -> int:
        """Execute an operation and return the status of its response."""
        block.locator(".execute").click()
        status = block.locator(".live-responses-table .response-col_status")
        status.nth(1).wait_for(timeout=60_000)
        return int(status.nth(1).inner_text().split()[0])


@pytest.mark.parametrize("path", ["/docs", "/"])
def test_the_page_loads_from_the_gateway_alone(browser, running: Gateway, path: str) -> None:
    opened = Opened(browser, running.base + path)
    assert opened.complaints == []
    hosts = {urlsplit(url).netloc for url in opened.requests if not url.startswith("data:")}
    assert hosts == {urlsplit(running.base).netloc}
    paths = {urlsplit(url).path for url in opened.requests if not url.startswith("data:")}
    assert paths <= {
        path, "/openapi.json", "/docs/static/swagger-ui-bundle.js", "/docs/static/swagger-ui.css",
        "/docs/static/favicon-32x32.png",
    }  # fmt: skip
    assert opened.page.locator(".opblock").count() == 8


def test_the_policy_refuses_scripts_of_others(browser, running: Gateway) -> None:
    opened = Opened(browser, f"{running.base}/docs")
    for tag, attribute in (("script", "src"), ("img", "src")):
        opened.page.evaluate(
            f"""() => {{ const made = document.createElement("{tag}");
            made.{attribute} = "https://example.org/x"; document.body.append(made); }}"""
        )
    opened.page.wait_for_timeout(200)
    assert sum("Content Security Policy" in complaint for complaint in opened.complaints) == 2


def test_a_sample_is_segmented_after_authorizing(browser, running: Gateway, tmp_path: Path) -> None:
    opened = Opened(browser, f"{running.base}/docs")
    assert opened.execute(opened.operation("readyz", "operations")) == 200
    with opened.page.expect_download() as download:
        opened.page.locator(".info a", has_text="sample.png").evaluate("link => { link.target = ''; link.click() }")
    sample = tmp_path / "sample.png"
    download.value.save_as(sample)

    create = opened.operation("create")
    create.locator(".examples-select-element").select_option("wait")
    create.locator("input[type=file]").set_input_files(sample)
    assert opened.execute(create) == 401

    opened.page.locator(".auth-wrapper .authorize").first.click()
    opened.page.locator(".modal-ux input").fill(KEY)
    opened.page.locator(".modal-ux button.authorize").click()
    opened.page.locator(".modal-ux button.btn-done").click()
    create.locator(".btn-clear").click()
    assert opened.execute(create) == 200, create.locator(".live-responses-table").inner_text()
    response = create.locator(".live-responses-table .response-col_description").nth(1).inner_text()
    assert '"state": "done"' in response
    if folder := os.environ.get("METSEG_TEST_SCREENSHOTS"):
        opened.page.screenshot(path=Path(folder) / "docs.png", full_page=True)
    assert {urlsplit(url).netloc for url in opened.requests if url.startswith("http")} == {
        urlsplit(running.base).netloc
    }
