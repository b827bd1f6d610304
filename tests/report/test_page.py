"""The report: one file, nothing outside it, every patient named, nothing from the data trusted."""

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from metseg.report.content import OverlayCase, telling_patients
from metseg.report.figures import overlay_figure, overlay_panels
from metseg.report.page import duration, number, render, write_report
from metseg.report.style import PREDICTION, TRUTH
from tests.report.example import example

LOADING = {"src", "href", "srcset", "data", "poster", "action", "xlink:href", "background"}


class Page(HTMLParser):
    """Everything that the page would load, its tags and its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads, self.tags, self.words = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in LOADING]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def html() -> str:
    return render(example())


def test_the_file_is_small_and_refers_to_nothing_outside(html, tmp_path):
    page = Page(html)
    assert page.loads and all(value.startswith("data:") for value in page.loads)
    assert not re.search(r"url\(|@import|https?://", html)
    assert not {"script", "iframe", "object"} & set(page.tags)
    write_report(tmp_path / "report.html", example())
    assert (tmp_path / "report.html").stat().st_size < 10_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_every_picture_decodes(html):
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", html)
    assert len(pictures) == 6 + 3 * 4
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture))).verify()


def test_every_patient_of_every_split_is_named(html):
    text = Page(html).text
    for patients in example().splits.values():
        for patient in patients:
            assert patient in text


def test_the_page_says_what_a_reader_asks_for(html):
    text = Page(html).text
    for words in (
        "Passed: may be promoted", "one-sided sign-flip p", "UNet++", "Attention U-Net", "2 267 205", "0.312",
        "Not a medical device", "d41d8cd98f00b204e9800998ecf8427e.dir", "10 min 12 s", "epochs",
        "Best: ", "Median: ", "Worst: ", "6–10 mm", "BraTS-MET-00086", "git@example:cohorts.git",
    ):  # fmt: skip
        assert words in text, words


def test_every_sub_network_is_told_with_its_cost(html):
    section = html[html.index('id="cost"') : html.index('id="training"')]
    rows = [" ".join(Page(row).text.split()) for row in section.split("<tr>")[2:]]
    assert rows[0] == "UNet++, L1 6 761 0.07 0.412 0.502"
    assert rows[4] == "average exported 568 908 0.59 0.791 0.808"
    assert rows[5].startswith("Attention U-Net 504 717 0.43 0.752 0.790")
    assert "means over the 10 validation patients" in Page(section).text
    assert "inference_head=L" in Page(section).text


def test_single_headed_networks_are_told_without_levels():
    content = example(3)
    single = dataclasses.replace(content, networks=content.networks[1:])
    text = Page(render(single)).text
    assert "Accuracy against cost" in text and "inference_head=L" not in text and "exported" not in text
    none = dataclasses.replace(content, networks=[dataclasses.replace(n, heads=()) for n in content.networks])
    assert "Accuracy against cost" not in render(none)


def test_the_verdict_stands_before_everything_else(html):
    assert html.index('id="verdict"') < html.index('id="networks"') < html.index('id="patients"')


def test_names_from_the_data_are_escaped():
    hostile = '<script>alert("x")</script>'
    content = example(3, prefix=f"{hostile}&")
    content = dataclasses.replace(content, reference=hostile, parameters={hostile: hostile}, run=hostile)
    html = render(content)
    assert "script" not in Page(html).tags
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(("outcome", "headline"), [("rejected", "Rejected"), ("tie", "the champion stays")])
def test_other_outcomes_are_headlined(outcome, headline):
    content = example(3)
    verdict = {**content.verdict, "outcome": outcome, "passed": False}
    assert headline in Page(render(dataclasses.replace(content, verdict=verdict))).text


def test_unknown_spacing_is_told_in_voxels_and_without_surface_scores():
    text = Page(render(example(3, spacing_known=False))).text
    assert "Volume, voxels" in text and "HD95" not in text and "6–10 voxels" in text
    assert "HD95, mm" in Page(render(example(3))).text


def test_many_patients_and_the_barest_content_render():
    many = render(example(60, champion=False))
    assert len(many) < 10_000_000 and "BraTS-MET-00853" in many
    content = example(1)
    bare = [dataclasses.replace(network, history=()) for network in content.networks[:1]]
    html = render(dataclasses.replace(content, networks=bare, overlays=(), baseline=None, parameters={}, seconds={}))
    assert "Training loss" not in html


def test_best_median_and_worst_are_told_once_each():
    scores = {name: {"dice": value} for name, value in zip("abcde", (0.1, 0.9, 0.5, 0.7, 0.3), strict=True)}
    assert telling_patients(scores) == {"best": "b", "median": "c", "worst": "a"}
    assert telling_patients({"a": {"dice": 0.4}}) == {"best": "a"}
    assert telling_patients({}) == {}


def colours(png: bytes) -> set[str]:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    return {"#{:02X}{:02X}{:02X}".format(*pixel) for pixel in np.unique(pixels, axis=0)}


def test_contours_are_drawn_around_their_own_mask():
    truth, prediction = np.zeros((2, 30, 40), bool)
    truth[5:15, 5:15] = prediction[18:24, 22:30] = True
    image = np.full((30, 40), 90, np.uint8)
    panels = overlay_panels(OverlayCase("best", "p", "unet", 0.0, image, truth, prediction, 3))
    assert colours(panels["image"]) == {"#5A5A5A"}
    assert colours(panels["truth"]) == {"#5A5A5A", TRUTH}
    assert colours(panels["prediction"]) == {"#5A5A5A", PREDICTION}
    assert len(colours(panels["difference"])) == 3


def test_the_overview_picture_is_written_whole(tmp_path):
    overlay_figure(example(3).overlays, tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.size[0] == 1200 and picture.size[1] > 900


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (None, "–"), (float("nan"), "–"), (-0.05, "−0.050"), (2.4e-6, "2.4e−06")]
)
def test_scores_read_well(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(4.06, "4.1 s"), (65, "1 min 05 s"), (3725, "1 h 02 min")])
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
