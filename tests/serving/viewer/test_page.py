"""The page, clicked through in a headless browser against a real model server."""

from __future__ import annotations

import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.serving.ports import free_port
from tests.serving.viewer.conftest import CHANNELS
from tests.serving.viewer.viewers import CHROMIUM, start_viewer

WAIT_MS = 60_000

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no browser: install Debian's chromium, or name one by METSEG_CHROMIUM"
)


@pytest.fixture(scope="module")
def viewer(two_models: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Its address and its log."""
    folder = tmp_path_factory.mktemp("viewer")
    process, address = start_viewer(two_models.address, folder)
    yield address, folder / "log"
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1400, "height": 1100}, accept_downloads=True)
    opened.set_default_timeout(WAIT_MS)
    yield opened
    opened.close()


def drop(page: Any, files: list[Path]) -> None:
    page.get_by_text("Your files").click()
    page.locator("input[type=file]").set_input_files([str(path) for path in files])
    page.get_by_role("button", name="Open the study").click()


def places(page: Any) -> list[str]:
    return list(page.locator(".place").all_inner_texts())


def wait_for_places(page: Any, expected: list[str]) -> None:
    ends = time.monotonic() + 20
    while places(page) != expected:
        assert time.monotonic() < ends, f"{places(page)} instead of {expected}"
        page.wait_for_timeout(50)


def picture(page: Any, number: int = 0) -> str:
    return str(page.locator(".picture").nth(number).get_attribute("src"))


def wait_for_another_picture(page: Any, before: str) -> None:
    ends = time.monotonic() + 20
    while picture(page) == before:
        assert time.monotonic() < ends, "the picture stays as it was"
        page.wait_for_timeout(50)


def save(page: Any, name: str, folder: Path) -> Path:
    with page.expect_download() as started:
        page.get_by_role("button", name=name, exact=True).click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def open_known_study(page: Any, address: str, files: dict[str, Path]) -> None:
    page.goto(address)
    drop(page, list(files.values()))
    page.locator("tr[data-lesion]").nth(1).wait_for()
    page.get_by_text("Dice between A and B").wait_for()


def test_a_dropped_study_is_looked_at_compared_and_taken_away(page, viewer, study_files, tmp_path):
    address, log = viewer
    hosts = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2] if "://" in request.url else "page"))
    open_known_study(page, address, study_files)

    # The lesions, whose sizes and places are known.
    rows = [row.split("\t") for row in page.locator("tr[data-lesion]").all_inner_texts()]
    assert [row[:2] for row in rows] == [["1", "288"], ["2", "108"]]
    assert [row[-2:] for row in rows] == [["yes", "yes"], ["no", "no"]]
    # The faint lesion lies around slice 14.5, row 19, column 16, counted from 0.
    page.locator("tr[data-lesion='2']").click()
    wait_for_places(page, ["slice 15 of 20", "slice 20 of 30", "slice 17 of 24"])
    page.locator("tr[data-lesion='2'][aria-selected='true']").wait_for()

    # A slider, the wheel, a key and a click move the slices.
    before = picture(page)
    page.locator(".slider").first.fill("6")
    wait_for_places(page, ["slice 7 of 20", "slice 20 of 30", "slice 17 of 24"])
    wait_for_another_picture(page, before)
    page.locator(".frame").first.hover()
    page.mouse.wheel(0, 80)
    wait_for_places(page, ["slice 9 of 20", "slice 20 of 30", "slice 17 of 24"])
    page.locator(".frame").nth(1).focus()
    page.keyboard.press("ArrowDown")
    wait_for_places(page, ["slice 9 of 20", "slice 19 of 30", "slice 17 of 24"])
    box = page.locator(".picture").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    wait_for_places(page, ["slice 9 of 20", "slice 16 of 30", "slice 7 of 24"])

    # Tissue is at the window's lower end, black: with that end at zero it is not.
    before = picture(page)
    window = page.get_by_role("slider", name=re.compile("Window"))
    window.first.focus()
    page.keyboard.press("Home")
    wait_for_another_picture(page, before)

    assert page.get_by_text("Not a medical device").first.is_visible()
    assert hosts == {address.removeprefix("http://")}
    # Neither the page nor the log says whose study it is.
    assert "Doe" not in page.content() and "Doe" not in log.read_text()

    page.get_by_role("tab", name="Download").click()
    mask = nibabel.load(save(page, "Mask", tmp_path))
    image = np.asarray(nibabel.load(study_files["t1c"]).dataobj)
    assert (np.asarray(mask.dataobj) == ((image == 900) | (image == 600))).all()
    assert save(page, "CSV", tmp_path).read_text().count("\n") == 3
    with zipfile.ZipFile(save(page, "Overlays of all lesions (ZIP of PNG)", tmp_path)) as archive:
        assert len(archive.namelist()) == 2


def test_two_models_stand_side_by_side_with_their_differences_and_scores(page, viewer, study_files):
    open_known_study(page, viewer[0], study_files)
    # 2 · 48 / (66 + 48).
    assert page.get_by_text("0.842").first.is_visible()
    assert page.get_by_text("A marks 2 lesions, 1 of them where B marks nothing").is_visible()
    page.get_by_text("Side by side").click()
    page.locator("figure[data-view='Difference-axial']").wait_for()
    titles = page.locator(".title").all_inner_texts()
    assert "nested_unet" in titles[0] and "attention_unet" in titles[1]
    before = picture(page)
    page.get_by_role("button", name="Heat map").click()
    wait_for_another_picture(page, before)
    page.get_by_role("tab", name="Scores").click()
    # A marks 66 voxels, of which 48 are the truth; B marks the truth itself.
    dice = page.locator("tr", has_text="Dice").filter(has_not_text="lesion").filter(has_not_text="surface").first
    assert dice.locator("td").all_inner_texts()[-2:] == ["0.842", "1"]
    page.get_by_role("tab", name="Model").click()
    page.get_by_text("Registry's model card").first.click()
    page.get_by_text("There is no MLflow registry in this workspace").wait_for()


def test_files_whose_names_say_nothing_are_asked_about(page, viewer, study_files, tmp_path):
    # In the order in which the model takes them, which is what is offered.
    files = []
    for number, name in enumerate(CHANNELS, start=1):
        files.append(tmp_path / f"series{number}.nii.gz")
        files[-1].write_bytes(study_files[name].read_bytes())
    page.goto(viewer[0])
    page.get_by_text("Your files").click()
    page.locator("input[type=file]").set_input_files([str(path) for path in files])
    page.get_by_text("The names do not state the channel").wait_for()
    page.get_by_role("button", name="Open the study").click()
    page.locator("tr[data-lesion]").nth(1).wait_for()


def test_a_broken_file_is_one_sentence(page, viewer, tmp_path):
    broken = tmp_path / "Doe_Jane-t1c.nii.gz"
    broken.write_bytes(b"\x1f\x8b no more")
    page.goto(viewer[0])
    drop(page, [broken])
    said = page.get_by_test_id("stAlert").first
    said.wait_for()
    assert "file-1.nii.gz" in said.inner_text() and "Traceback" not in said.inner_text()


def test_without_a_model_server_images_are_looked_at_and_the_page_says_why(browser, study_files, tmp_path):
    process, address = start_viewer(f"127.0.0.1:{free_port()}", tmp_path)
    try:
        page = browser.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(address)
        page.get_by_text("no model server responds at").wait_for()
        drop(page, [study_files[name] for name in CHANNELS])
        page.locator(".viewport").nth(2).wait_for()
        page.close()
    finally:
        process.terminate()
        process.wait(20)
