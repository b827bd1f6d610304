"""A person moves aliases in the MLflow UI, in a real browser, and `stable` follows; MLflow may be away for a while."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from metseg.serving.client import ModelClient
from tests.serving.reconciliation.laboratory import Laboratory, answer, reconciling, request, serving, settings_in
from tests.serving.reconciliation.load import Callers
from tests.serving.reconciliation.mlflow_server import MlflowServer
from tests.serving.server_process import Said, ServerProcess

NAME = "lesions"
MOST_SECONDS = 10.0


@dataclass
class Site:
    """MLflow and a model server as processes, and `metseg reconcile` between them."""

    mlflow: MlflowServer
    laboratory: Laboratory
    server: ServerProcess
    said: Said


@pytest.fixture(scope="module")
def site(factor_models: dict[float, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    mlflow = MlflowServer(folder)
    mlflow.start()
    laboratory = Laboratory(settings_in(folder, mlflow.url), factor_models)
    for factor, wrong in ((0.25, {}), (0.5, {}), (0.75, {"gate": "rejected"})):
        laboratory.register(NAME, factor, **wrong)
    laboratory.point(NAME, "champion", 1)
    try:
        with serving(laboratory.volume) as server, reconciling(laboratory, server, NAME) as said:
            said.until("stable → 1")
            yield Site(mlflow, laboratory, server, said)
    finally:
        mlflow.stop()


@contextmanager
def browser_page() -> Iterator[Any]:
    """A page of Debian's Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: it drives the browser")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.set_default_timeout(120_000)
            yield page
        finally:
            browser.close()


def add_alias(page: Any, url: str, version: int, alias: str) -> float:
    """Give a version an alias as a person does; the moment of the click that saves it, by the monotonic clock."""
    page.goto(f"{url}/#/models/{NAME}/versions/{version}")
    page.get_by_role("heading", name=f"Version {version}").wait_for()
    page.get_by_test_id("descriptions-item").filter(has_text="Aliases").get_by_role("button").last.click()
    dialog = page.get_by_role("dialog")
    aliases = dialog.get_by_role("combobox")
    aliases.click()
    aliases.press_sequentially(alias)
    aliases.press("Enter")
    save = dialog.get_by_role("button", name="Save aliases")
    save.click()
    clicked = time.monotonic()
    save.wait_for(state="hidden")
    return clicked


def test_alias_moved_in_the_browser_changes_what_stable_answers(site: Site) -> None:
    image = request(3)
    expected = {number: answer(image, factor) for number, factor in ((1, 0.25), (2, 0.5))}
    with browser_page() as page, Callers(site.server.address, NAME, image, expected, threads=2) as callers:
        for number in (2, 1):
            callers.forget()
            clicked = add_alias(page, site.mlflow.url, number, "champion")
            assert callers.first_heard(number) - clicked <= MOST_SECONDS
            site.said.until(f"stable → {number}")
    assert callers.heard.failed == [] and callers.heard.mixed == []
    assert site.laboratory.pointed(NAME) == {"champion": 1, "previous": 2}


def test_rejected_version_that_is_made_champion_in_the_browser_says_why_it_is_not(site: Site) -> None:
    with browser_page() as page:
        add_alias(page, site.mlflow.url, 3, "champion")
        site.said.until("version 3 is refused")
        site.said.until("champion is set back to version 1")
        page.reload()
        page.get_by_role("button", name="Tags").click()
        page.get_by_text("serving.reason").wait_for()
        assert page.get_by_text("its tag gate is 'rejected'").first.is_visible()
    assert site.laboratory.pointed(NAME) == {"champion": 1, "previous": 2}
    with ModelClient(site.server.address, 60, retry_delays=()) as connection:
        assert connection.labelled_version(NAME, "stable") == 1


def test_mlflow_that_goes_away_is_waited_for(site: Site) -> None:
    site.mlflow.stop()
    site.said.until("; waiting", seconds=120)
    with ModelClient(site.server.address, 60, retry_delays=()) as connection:
        assert connection.labelled_version(NAME, "stable") == 1
    site.mlflow.start()
    site.laboratory.point(NAME, "champion", 2)
    site.said.until("stable → 2", seconds=120)
    waiting = [line for line in site.said.lines if "; waiting" in line]
    assert len(waiting) == 1, "one line a change"
