"""Every expectation passes on a sound cohort and is tripped, by name and case, by one that breaks it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas
import pytest

from metseg.dataset.ingest import ingest
from metseg.errors import DataError, ValidationFailed
from metseg.validation.cohort_validation import finding_of, require_passed, validate_cohort
from metseg.validation.drift import compare, new_spacings
from metseg.validation.expectations import drift_expectations, expectations
from metseg.validation.reference_statistics import Reference, describe
from metseg.validation.result import DriftRow, Finding, Place, ValidationResult
from metseg.validation.suites import run_suites
from metseg.validation.tables import make_frames
from tests.validation.cohorts import (
    Cohort,
    Images,
    cohort,
    copy_slice,
    images,
    put,
    sound,
    with_entries,
    with_entry,
    with_images,
    with_statistics,
)


def doubled() -> Cohort:
    manifest, rows = sound()
    return replace(manifest, cases=[*manifest.cases, manifest.cases[0]]), rows


def two_patients() -> Cohort:
    manifest, rows = sound()
    cases = [replace(one, patient="x" if one.split == "train" else "y") for one in manifest.cases]
    return replace(manifest, cases=cases), rows


def four_training_patients() -> Cohort:
    manifest, rows = sound()
    return replace(manifest, cases=manifest.cases[1:]), rows[rows["case"] != "a"]


def without_statistics_of_a_slice() -> Cohort:
    manifest, rows = sound()
    return manifest, rows[~((rows["case"] == "b") & (rows["slice"] == 2))]


def without_statistics_of_a_case() -> Cohort:
    manifest, rows = sound()
    return manifest, rows[rows["case"] != "b"]


def other_channel_name() -> Cohort:
    manifest, rows = sound()
    return manifest, rows.assign(channel=rows.channel.where(rows.case != "c", rows.channel.replace("t1c", "t2w")))


def huge_lesion() -> Cohort:
    manifest, rows = with_statistics("b", lesion_sizes=[100])()
    return replace(manifest, cases=[replace(one, spacing=(20.0, 20.0, 20.0)) for one in manifest.cases]), rows


def nearly_empty(of: Images) -> None:
    of["b"][:] = 0
    of["b"][1, 12, 12] = 90, 95


def copied_channel(of: Images) -> None:
    of["b"][..., 1] = of["b"][..., 0]


black = with_statistics("b", "t1c", fraction_zero=0.95)
wide = with_statistics("b", "t1c", window_high=9e3)

TRIPS: list[tuple[str, str, Callable[[], Cohort], set[str]]] = [
    ("at least three patients", "critical", two_patients, set()),
    ("every patient in one split", "critical", with_entry("f", patient="patient a"), {"a", "f"}),
    ("splits are train, validation and test", "critical", with_entries(("test",), split="train"), set()),
    ("case names are unique", "critical", doubled, {"a"}),
    ("at least 5 patients in each split", "warning", four_training_patients, set()),
    ("slices between 1 and 4096", "critical", with_entry("b", slices=0), {"b"}),
    ("height between 1 and 4096", "critical", with_entry("b", height=5000), {"b"}),
    ("width between 1 and 4096", "critical", with_entry("b", width=0), {"b"}),
    ("spacing is positive", "critical", with_entry("b", spacing=(1.0, 0.0, 1.0)), {"b"}),
    ("spacing is known for all cases or for none", "warning", with_entry("b", spacing=None), set()),
    ("spacing is like that of other cases", "warning", with_entry("b", spacing=(12.0, 1.0, 1.0)), {"b"}),
    ("as many slices as other cases", "warning", with_entry("b", slices=20), {"b"}),
    ("volumes lie along the patient's axes, to 20°", "warning", with_statistics("b", tilt_degrees=31.0), {"b"}),
    ("every case was read", "critical", without_statistics_of_a_case, {"b"}),
    ("slices have the size in the manifest", "critical", with_entry("b", height=23), {"b"}),
    ("statistics cover every slice and channel", "critical", without_statistics_of_a_slice, {"b"}),
    ("every slice has its mask", "critical", with_statistics("b", lesion_voxels=np.nan), {"b"}),
    ("mask values are 0 and 1", "critical", with_statistics("b", mask_max=4), {"b"}),
    ("masks are those of the manifest", "critical", with_entry("b", lesion_voxels=3), {"b"}),
    ("lesions fill less than half of the volume", "critical", with_entry("b", lesion_voxels=1152), {"b"}),
    ("the mask lies on the head", "critical", with_statistics("b", lesion_outside=2), {"b"}),
    ("lesions lie inside the head", "warning", with_images(put("b", (1, slice(8, 22)), 0)), {"b"}),
    ("training patients have lesions", "critical", with_entries(lesion_voxels=0), set()),
    ("validation patients have lesions", "warning", with_entries(("validation",), lesion_voxels=0), set()),
    ("test patients have lesions", "warning", with_entries(("test",), lesion_voxels=0), set()),
    ("every case has a lesion", "warning", with_entry("b", lesion_voxels=0), {"b"}),
    ("at most 200 lesions in a case", "warning", with_statistics("b", lesion_sizes=[2] * 51), {"b"}),
    ("few lesions are single voxels", "warning", with_statistics("b", lesion_sizes=[1, 1, 9]), {"b"}),
    ("no lesion is larger than 300 cm³", "warning", huge_lesion, {"b"}),
    ("between 1% and 95% of a split's slices have lesion", "warning", with_entries(("test",), lesion_slices=4), set()),
    ("splits have lesion in like shares of their slices", "warning", with_entries(("test",), lesion_slices=0), set()),
    ("channels are those of the manifest", "critical", other_channel_name, set()),
    ("every value is a finite number", "critical", with_images(put("b", (0, 9, 9, 1), np.nan)), {"b"}),
    ("no channel is constant", "critical", with_images(put("b", (..., 1), 7)), {"b"}),
    ("intensities are within the range of scanners", "warning", with_images(put("b", (0, 9, 9, 0), 1e9)), {"b"}),
    ("intensities are within the range of scanners", "warning", with_images(put("b", (0, 9, 9, 0), -1e9)), {"b"}),
    ("the head fills some of the picture", "warning", with_images(nearly_empty), {"b"}),
    ("no channel is a copy of another", "warning", with_images(copied_channel), {"b"}),
    ("the intensity window is like that of other cases", "warning", with_statistics("b", window_high=9e3), {"b"}),
    ("no slice is blank in one channel alone", "warning", with_images(put("b", (1, ..., 1), 0)), {"b"}),
    ("images are skull-stripped", "warning", with_statistics("b", skull_stripped=False), {"b"}),
    ("no image is in two splits", "critical", with_images(copy_slice("a", "f")), {"a", "f"}),
    ("no image belongs to two patients", "warning", with_images(copy_slice("a", "b")), {"a", "b"}),
    ("no image resembles one in another split", "warning", with_images(copy_slice("a", "f", noise=1)), {"a", "f"}),
    ("no image resembles one of another patient", "warning", with_images(copy_slice("a", "b", noise=1)), {"a", "b"}),
    ("the number of slices is no outlier of the cohort", "warning", with_entry("b", slices=20), {"b"}),
    ("the share of head is no outlier of the cohort", "warning", with_statistics("b", head_fraction=0.01), {"b"}),
    ("the number of lesions is no outlier of the cohort", "warning", with_statistics("b", lesion_sizes=[2] * 3), {"b"}),
    ("the volume of lesions is no outlier of the cohort", "warning", with_entry("b", lesion_voxels=90), {"b"}),
    ("the mean is no outlier of the cohort", "warning", with_statistics("b", "t1c", mean=9e3), {"b"}),
    ("the standard deviation is no outlier of the cohort", "warning", with_statistics("b", "t1c", std=9e3), {"b"}),
    ("the median is no outlier of the cohort", "warning", with_statistics("b", "t1c", p50=9e3), {"b"}),
    ("the 99th percentile is no outlier of the cohort", "warning", with_statistics("b", "t1c", p99=9e3), {"b"}),
    ("the share of zeros is no outlier of the cohort", "warning", black, {"b"}),
    ("the width of the window is no outlier of the cohort", "warning", wide, {"b"}),
]  # fmt: skip


def findings_of(verdict: ValidationResult) -> dict[str, Finding]:
    return {finding.expectation: finding for finding in (*verdict.critical, *verdict.warnings)}


def test_a_sound_cohort_passes_and_its_papers_replace_earlier_ones(tmp_path: Path) -> None:
    assert not validate_cohort(*with_entry("b", slices=0)(), tmp_path).passed
    manifest, rows = sound()
    verdict = validate_cohort(manifest, rows, tmp_path)
    assert not findings_of(verdict) and verdict.passed
    assert set(verdict.expectations) == {one.name for one in expectations(manifest)}
    require_passed(verdict)
    assert ValidationResult.read(tmp_path / "verdict.json") == verdict
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data_docs", "validation.html", "verdict.json"]
    assert len(list((tmp_path / "data_docs" / "validations").rglob("*.html"))) == 4
    page = (tmp_path / "validation.html").read_text()
    assert "a &lt;note&gt;" in page and "://" not in page and "<script" not in page


def test_every_expectation_has_a_cohort_that_trips_it() -> None:
    manifest, _ = sound()
    assert {name for name, *_ in TRIPS} == {one.name for one in expectations(manifest)}


@pytest.mark.parametrize("name, severity, make, cases", TRIPS)
def test_expectation_is_tripped(name: str, severity: str, make: Callable[[], Cohort], cases: set[str]) -> None:
    manifest, rows = make()
    (expected,) = [one for one in expectations(manifest) if one.name == name]
    (outcome,) = run_suites([expected], vars(make_frames(manifest, rows)))
    assert not outcome.success and not outcome.error
    finding = finding_of(outcome)
    assert finding.severity == severity
    assert set(finding.cases) == cases
    assert finding.found and finding.remedy


class Fetches(HTMLParser):
    """Collects what a browser would fetch or run to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe"):
            self.found.append(tag)
        self.found += [str(value) for name, value in attrs if name == "src" and not str(value).startswith("data:")]


def test_what_stops_a_run_names_the_cases_in_papers_that_open_without_a_network(tmp_path: Path) -> None:
    of = images()
    copied_channel(of)
    of["c"][0, 9, 9, 1] = np.nan
    verdict = validate_cohort(*cohort(of), tmp_path)
    assert str(verdict.critical[0]).startswith(
        "expected: every value is a finite number; found c t1c: 1 [c]. Replace NaN"
    )
    with pytest.raises(ValidationFailed, match=r"unfit for training, 1 findings:\n- expected: every value .*\[c\]"):
        require_passed(verdict)
    written = json.loads((tmp_path / "verdict.json").read_text())
    judged, warnings = len(verdict.expectations), len(verdict.warnings)
    assert written["counts"] == {"expectations": judged, "critical": 1, "warnings": warnings}
    assert written["critical"][0]["places"] == [{"case": "c", "channel": "t1c", "slice_name": ""}]
    pages = [tmp_path / "validation.html", *(tmp_path / "data_docs").rglob("*.html")]
    assert len(pages) == 1 + 1 + 4 + 4
    for path in pages:
        fetches = Fetches()
        fetches.feed(path.read_text())
        assert fetches.found == [], path
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", path.read_text()), path
    index = (tmp_path / "data_docs" / "index.html").read_text()
    targets = re.findall(r'href="([^"]+)"', index)
    assert len(targets) == 8 and all((tmp_path / "data_docs" / target).is_file() for target in targets)
    assert "the same as t1n" in "".join(path.read_text() for path in pages[1:])


def test_a_long_list_of_cases_is_cut_in_words_and_whole_in_the_file() -> None:
    finding = Finding("x", "warning", "y", tuple(map(str, range(30))), "z")
    assert str(finding) == "expected: x; y [0, 1, 2, 3, 4, 5, 6, 7 and 22 more]. z"


def test_papers_of_two_ingests_are_refused(tmp_path: Path) -> None:
    manifest, rows = sound()
    with pytest.raises(DataError, match="cases that the manifest lacks: a"):
        validate_cohort(replace(manifest, cases=manifest.cases[1:]), rows, tmp_path)
    with pytest.raises(DataError, match="lack the columns digest"):
        validate_cohort(manifest, rows.drop(columns="digest"), tmp_path)


def drift_of(reference: Reference, moved: Cohort) -> dict[str, Finding]:
    frames = make_frames(*moved)
    frames.cases["new_spacing"] = pandas.Series(new_spacings(reference, moved[0]), dtype=object)
    tables = {**vars(frames), **vars(compare(reference, moved[0], frames))}
    outcomes = run_suites(drift_expectations(), tables)
    return {outcome.expected.name.split(" (")[0]: finding_of(outcome) for outcome in outcomes if not outcome.success}


def test_the_same_data_have_not_drifted() -> None:
    manifest, rows = sound()
    assert drift_of(describe(manifest, rows), (manifest, rows)) == {}


def test_brighter_images_of_another_grid_and_label_are_drift() -> None:
    before, statistics = sound()
    reference = describe(replace(before, cases=[replace(one, split="train") for one in before.cases]), statistics)
    of = images()
    for image in of.values():
        image[..., 1] *= 3
    manifest, rows = cohort(of)
    entries = [replace(one, spacing=(5.0, 1.0, 1.0) if one.case == "b" else one.spacing) for one in manifest.cases]
    found = drift_of(reference, (replace(manifest, cases=entries, labels=["3"]), rows))
    assert {finding.severity for finding in found.values()} == {"warning"}
    assert found["spacings are like the champion's"].cases == ("b",)
    assert (
        "labels: 3, the champion's are 1, 3"
        in found["channels and labels are the champion's, else the two are incomparable"].found
    )
    moved = found["statistics are distributed as the champion's"].found
    assert "t1c mean" in moved and "t1n" not in moved
    assert "t1c mean" in found["no statistic has moved far from the champion's"].found


def test_a_verdict_with_drift_says_what_it_was_compared_with(tmp_path: Path) -> None:
    manifest, rows = sound()
    verdict = validate_cohort(manifest, rows, tmp_path, reference=describe(replace(manifest, version="1.dir"), rows))
    assert verdict.passed and verdict.reference == "1.dir" and len(verdict.drift) > 10
    assert ValidationResult.read(tmp_path / "verdict.json") == verdict
    assert "1.dir" in (tmp_path / "validation.html").read_text()
    assert len(list((tmp_path / "data_docs" / "validations").rglob("*.html"))) == 6


def test_a_result_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """As commit 92ef0e7 wrote it: without a format."""
    finding = {
        "expectation": "every value is a finite number", "severity": "critical", "found": "found c t1c: 1",
        "cases": ["c"], "remedy": "Replace NaN.", "places": [{"case": "c", "channel": "t1c", "slice_name": ""}],
    }  # fmt: skip
    row = {
        "statistic": "slices", "reference_median": 4.0, "median": 4.0, "psi": 0.0, "psi_by_chance": 0.0, "ks": 0.0,
        "ks_p": 1.0,
    }  # fmt: skip
    content = {
        "passed": False, "critical": [finding], "warnings": [], "expectations": ["every value is a finite number"],
        "reference": "1.dir", "drift": [row],
        "counts": {"expectations": 1, "critical": 1, "warnings": 0},
    }  # fmt: skip
    (tmp_path / "verdict.json").write_text(json.dumps(content))
    result = ValidationResult.read(tmp_path / "verdict.json")
    assert result.critical[0].places == (Place("c", "t1c"),)
    assert result.drift == (DriftRow("slices", 4.0, 4.0, 0.0, 0.0, 0.0, 1.0),)
    assert result == ValidationResult.of(result.critical, result.expectations, "1.dir", result.drift)


def test_real_copies_of_flair_are_named_and_shown(tmp_path: Path, shared_data: Path) -> None:
    manifest = ingest(str(shared_data / "tcga-lgg"), tmp_path / "cohort")
    statistics = pandas.read_parquet(tmp_path / "cohort" / "statistics.parquet")
    verdict = validate_cohort(manifest, statistics, tmp_path / "out", cases=tmp_path / "cohort" / "cases")
    assert verdict.passed
    copies = findings_of(verdict)["no channel is a copy of another"]
    assert set(copies.cases) == {"TCGA_DU_6407_19860514", "TCGA_HT_7877_19980917"}
    assert "TCGA_DU_6407_19860514 t1c: the same as t2f" in copies.found
    assert "TCGA_HT_7877_19980917 t2f: the same as t1n and t1c" in copies.found
    assert not [name for name in findings_of(verdict) if name.startswith("no image")]
    page = (tmp_path / "out" / "validation.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 3
    assert len(page) < 1_000_000
