"""The report: one file, nothing outside it, every patient named, nothing from the data trusted."""

import base64
import dataclasses
import io
import re
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from components.configuration.setting_names import SETTINGS
from metseg.report.html_report import Drawn, draw, render, write_report
from metseg.report.number_format import duration, number, signed
from metseg.report.overlays import overlay_figure, overlay_panels
from metseg.report.report_data import OverlayCase, ReportContent, telling_patients
from metseg.report.style import CHAMPION, PREDICTION, TRUTH, colour_of
from metseg.scoring.verdict import Gain
from metseg.validation.result import Finding
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


def shown(content: ReportContent) -> str:
    """The page of some content with the charts of the example: for tests of its words."""
    return render(content, charts())


@cache
def charts() -> dict[str, Drawn]:
    return draw(example())


def test_the_file_is_small_and_refers_to_nothing_outside(html, tmp_path):
    page = Page(html)
    within = {value for value in page.loads if value.startswith("#")}
    assert len(within) >= 9 and all(f'id="{value[1:]}"' in html for value in within)
    assert set(page.loads) > within and all(value.startswith("data:") for value in set(page.loads) - within)
    assert not re.search(r"url\(|@import|https?://", html)
    assert not {"script", "iframe", "object"} & set(page.tags)


def test_the_charts_are_files_of_their_own_too(html, tmp_path):
    write_report(tmp_path / "report.html", example(), tmp_path / "figures")
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "figures"}
    assert 300_000 < (tmp_path / "report.html").stat().st_size < 10_000_000
    charts = {path.stem: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert set(charts) == {
        "scores", "amounts", "dice", "lesion_f1", "sizes", "calibration", "training_loss", "validation_dice", "cost"
    }  # fmt: skip
    for chart in charts.values():
        assert base64.b64encode(chart).decode() in html


def test_every_picture_decodes(html):
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", html)
    assert len(pictures) == 9 + 3 * 4
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
        "Passed: may be promoted", "one-sided sign-flip p", "UNet++", "Attention U-Net", "568 908", "0.312",
        "Images are skull-stripped", "12 cases: BraTS-MET-00086-000", "expected calibration error", "1.8 GB",
        "Not a medical device", "d41d8cd98f00b204e9800998ecf8427e.dir", "10 min 12 s", "epochs",
        "Best: ", "Median: ", "Worst: ", "6–10 mm", "BraTS-MET-00086", "git@example:cohorts.git",
    ):  # fmt: skip
        assert words in text, words


def test_settings_have_the_names_by_which_a_run_takes_them():
    names = example().parameters
    settings = {name for name in names if name.startswith(("data_", "train_"))}
    assert {"data_image_size", "data_clahe", "train_filters", "train_loss"} <= settings <= set(SETTINGS)
    assert not {name.partition("_")[2] for name in settings} & set(names)


def test_every_sub_network_is_told_with_its_cost(html):
    section = html[html.index('id="cost"') : html.index('id="data"')]
    rows = [" ".join(Page(row).text.split()) for row in section.split("<tr>")[2:]]
    assert rows[0] == "UNet++ , L1 6 761 0.07 0.412 0.502"
    assert rows[4] == "average exported 568 908 0.59 0.791 0.808"
    assert rows[5].startswith("Attention U-Net 504 717 0.43 0.752 0.790")
    assert "means over the 10 validation patients" in Page(section).text
    assert "inference_head=L" in Page(section).text


def test_single_headed_networks_are_told_without_levels():
    content = example(3)
    single = dataclasses.replace(content, networks=content.networks[1:])
    html = render(single)
    assert "Accuracy against cost" in html and "inference_head=L" not in html and "exported</span>" not in html
    none = dataclasses.replace(content, networks=[dataclasses.replace(n, heads=()) for n in content.networks])
    assert "Accuracy against cost" not in render(none)


def test_the_verdict_stands_before_everything_else(html):
    assert html.index('id="verdict"') < html.index('id="networks"') < html.index('id="patients"')


def test_names_from_the_data_are_escaped():
    hostile = '<script>alert("x")</script>'
    content = example(3, prefix=f"{hostile}&")
    content = dataclasses.replace(
        content,
        reference=hostile,
        parameters={hostile: hostile},
        run=hostile,
        warnings=[Finding(hostile, "warning", hostile, (hostile,), hostile)],
    )
    html = shown(content)
    assert "script" not in Page(html).tags
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(("outcome", "headline"), [("rejected", "Rejected"), ("tie", "the champion stays")])
def test_other_outcomes_are_headlined(outcome, headline):
    content = example(3)
    verdict = dataclasses.replace(content.verdict, outcome=outcome, passed=False)
    assert headline in Page(shown(dataclasses.replace(content, verdict=verdict))).text


def test_unknown_spacing_is_told_in_voxels_and_without_surface_scores():
    text = Page(shown(example(3, spacing_known=False))).text
    assert "Volume, voxels" in text and "HD95" not in text and "6–10 voxels" in text
    assert "HD95, mm" in Page(shown(example(3))).text


def test_many_patients_and_the_barest_content_render():
    many = render(example(60, champion=False, shape=(12, 60, 60)))
    assert len(many) < 10_000_000 and "BraTS-MET-00853" in many and "Dice of each test patient" not in many
    content = example(1)
    bare = [dataclasses.replace(network, history=(), calibration=None, flips=None) for network in content.networks[:1]]
    nothing = {"overlays": (), "baseline": None, "parameters": {}, "steps": (), "warnings": (), "card": ""}
    html = render(dataclasses.replace(content, networks=bare, **nothing))
    assert "Training loss" not in html and "None: all 54 expectations hold." in Page(html).text
    assert "Model card" not in html and "The run" not in html


def test_best_median_and_worst_are_told_once_each():
    some = next(iter(example().networks[0].patients.values()))
    dices = dict(zip("abcde", (0.1, 0.9, 0.5, 0.7, 0.3), strict=True))
    scores = {name: dataclasses.replace(some, dice=dice) for name, dice in dices.items()}
    assert telling_patients(scores) == {"best": "b", "median": "c", "worst": "a"}
    assert telling_patients({"a": some}) == {"best": "a"}
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


def test_a_score_of_few_digits_is_no_power_of_ten_before_it_is_tiny():
    assert [number(0.07, 1), number(0.004, 2), number(0.0004, 1)] == ["0.1", "0.00", "4.0e−04"]


@pytest.mark.parametrize(("seconds", "text"), [(4.06, "4.1 s"), (65, "1 min 05 s"), (3725, "1 h 02 min")])
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_differences_read_with_their_sign():
    assert (signed(0.0123), signed(-0.5), signed(None)) == ("+0.012", "−0.500", "–")


def cells(html: str, section: str) -> list[list[str]]:
    """Words of each cell of each row of a section's tables."""
    part = html[html.index(f'<section id="{section}"') :]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", part[: part.index("</section>")], re.DOTALL)
    return [[Page(cell).text for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows]


def test_networks_and_champion_stand_side_by_side_with_their_means(html):
    heading, *rows = cells(html, "networks")
    assert heading == ["", "UNet++ winner", "Attention U-Net", "Champion v3 UNet++"]
    content = example()
    dice = [np.mean([scores.dice for scores in network.patients.values()]) for network in content.networks]
    assert [cell.split()[0] for cell in rows[0][1:]] == [f"{value:.3f}" for value in dice]
    best = re.search(r"<th>Dice</th>(.*?)</tr>", html, re.DOTALL)[1].split("<td")[1:]
    assert ["score best" in cell for cell in best] == [value == max(dice) for value in dice]
    errors = next(row for row in rows if row[0].startswith("Volume error"))
    expected = np.mean([abs(scores.volume_error_mm3) for scores in content.networks[0].patients.values()])
    assert errors[1].split()[0] == f"{expected:.0f}"


def test_without_a_champion_there_is_no_column_of_one():
    assert {len(row) for row in cells(shown(example(3, champion=False)), "networks")} == {3}


def test_lesions_found_by_size_are_counted_by_hand(html):
    content = example()
    lesions = [
        [lesion for scores in network.patients.values() for lesion in scores.lesions] for network in content.networks
    ]
    bounds = {"< 3 mm": (0, 3), "3–6 mm": (3, 6), "6–10 mm": (6, 10), "> 10 mm": (10, np.inf)}
    for row in cells(html, "sizes")[2:]:
        low, high = bounds[row[0]]
        inside = [[e.matched for e in entries if low <= e.diameter_mm < high] for entries in lesions]
        assert int(row[1]) == len(inside[0])
        for cell, matched in zip(row[2:], inside, strict=True):
            share = f"{np.mean(matched):.0%}" if matched else "–"
            assert cell.startswith(f"{sum(matched)} ({share})")


def test_calibration_errors_are_told_in_per_cent(html):
    rows = cells(html, "calibration")[1:]
    for row, network in zip(rows, example().networks, strict=True):
        # From the bins themselves, as the definition has it.
        bins = [entry for entry in network.calibration.bins if entry.voxels]
        voxels = sum(entry.voxels for entry in bins)
        error = sum(e.voxels / voxels * abs(e.observed - e.mean_probability) for e in bins)
        assert row[:2] == [network.name, f"{100 * error:.2f} %"]


def test_flips_are_told_with_gain_and_cost_where_they_were_tried_alone(html):
    rows = cells(html, "flips")
    assert [row[0] for row in rows[1:6]] == [
        "Dice", "Lesion F1", "Lesion sensitivity", "False positives a patient", "Seconds a volume (network)"
    ]  # fmt: skip
    assert rows[5][1:] == ["1.40", "5.70", "× 4.1"]
    plain, flipped, gain = (float(cell.split()[0].replace("−", "-")) for cell in rows[1][1:])
    assert flipped - plain == pytest.approx(gain, abs=0.0011)
    assert len(rows) == 2 * 6, "the champion's flips were not tried"
    assert "Test-time flips" not in shown(example(3, flips=False))


def test_the_champion_has_a_colour_of_its_own(html):
    assert colour_of(CHAMPION) not in {colour_of(network.architecture) for network in example().networks}
    assert html.count(colour_of(CHAMPION)) >= 4


def test_overlays_say_whose_they_are_which_slice_and_what_was_found(html):
    content = example()
    dice = {patient: scores.dice for patient, scores in content.networks[0].patients.items()}
    ranked = sorted(dice, key=dice.get)
    shown = {overlay.title: overlay for overlay in content.overlays}
    assert (shown["worst"].patient, shown["best"].patient) == (ranked[0], ranked[-1])
    worst = shown["worst"]
    scores = content.networks[0].patients[worst.patient]
    found = sum(lesion.matched for lesion in scores.lesions)
    words = f"UNet++, Dice {scores.dice:.2f}, {found} of {len(scores.lesions)} lesion"
    assert words in Page(html).text
    assert f"slice {worst.slice_index + 1} of 12 (most error)" in Page(html).text
    assert (shown["best"].reason, worst.channel) == ("most lesion", "t1c")


def test_the_card_is_part_of_the_report(html):
    section = html[html.index('<section id="card"') :]
    assert "<h2>Model card</h2>" in section and "<strong>research</strong>" in section and "<td>1 of 9</td>" in section


def test_what_a_network_gains_over_the_plain_one_is_told_where_the_verdict_says_it():
    content = example(3)
    gain = Gain("nested_unet", "unet", 0.02, (0.01, 0.03), 0.01, "UNet++ gains 0.02 Dice over the plain U-Net.")
    verdict = dataclasses.replace(content.verdict, gains=(gain,))
    assert gain.detail in Page(shown(dataclasses.replace(content, verdict=verdict))).text


def test_a_check_of_an_unknown_name_reads_well():
    content = example(3)
    check = dataclasses.replace(content.verdict.checks[0], name="moon_phase")
    verdict = dataclasses.replace(content.verdict, checks=(check,))
    assert cells(shown(dataclasses.replace(content, verdict=verdict)), "networks")
    assert "Moon phase ✓ passed" in Page(shown(dataclasses.replace(content, verdict=verdict))).text
