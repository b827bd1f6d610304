"""Every expectation passes on a sound cohort and is tripped, by name and case, by one that breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from metseg.dataset.ingest import ingest
from metseg.dataset.manifest import CaseEntry, Manifest
from metseg.dataset.statistics import slice_statistics
from metseg.errors import DataError, ValidationFailed
from metseg.validation.expectations import expectations
from metseg.validation.judge import Finding, Verdict, require, validate

CHANNELS = ("t1n", "t1c")
SPLIT_OF = {"a": "train", "b": "train", "c": "validation", "d": "test"}
Cohort = tuple[Manifest, pandas.DataFrame]
Images = dict[str, np.ndarray]


def images() -> Images:
    """Float images `(4, 6, 6, 2)` of the cases a to d; the last slice is empty, as above the head."""
    made = {}
    for seed, case in enumerate(SPLIT_OF):
        made[case] = np.random.default_rng(seed).normal(100, 20, (4, 6, 6, 2)).astype(np.float32)
        made[case][3] = 0
    return made


def cohort(of: Images) -> Cohort:
    """A sound manifest and the statistics of `of`; every case has a lesion of 2 voxels."""
    entries, rows = [], []
    for case, image in of.items():
        mask = np.zeros(image.shape[:3], np.uint8)
        mask[1, 2, 2:4] = 1
        rows += slice_statistics(case, CHANNELS, ("0", "1", "2", "3"), image, mask)
        entries.append(
            CaseEntry(case, f"patient {case}", "000", SPLIT_OF[case], False, 4, 6, 6, (3.0, 1.0, 1.0), 2, 1, ())
        )
    manifest = Manifest("data", "0.dir", "brats-mets", list(CHANNELS), ["1", "3"], ["a <note>"], entries)
    return manifest, pandas.DataFrame(rows)


def with_entry(case: str, **changes: Any) -> Callable[[], Cohort]:
    """A sound cohort whose manifest says something else of one case."""

    def make() -> Cohort:
        manifest, rows = cohort(images())
        entries = [replace(entry, **changes) if entry.case == case else entry for entry in manifest.cases]
        return replace(manifest, cases=entries), rows

    return make


def with_entries(**changes: Any) -> Callable[[], Cohort]:
    """A sound cohort whose manifest says something else of all cases."""

    def make() -> Cohort:
        manifest, rows = cohort(images())
        return replace(manifest, cases=[replace(entry, **changes) for entry in manifest.cases]), rows

    return make


def with_images(change: Callable[[Images], None]) -> Callable[[], Cohort]:
    """A cohort with other pixels."""

    def make() -> Cohort:
        of = images()
        change(of)
        return cohort(of)

    return make


def put(case: str, where: Any, value: Any) -> Callable[[Images], None]:
    def change(of: Images) -> None:
        of[case][where] = value

    return change


def copy_slice(source: str, target: str) -> Callable[[Images], None]:
    def change(of: Images) -> None:
        of[target][2] = of[source][1]

    return change


def doubled() -> Cohort:
    manifest, rows = cohort(images())
    return replace(manifest, cases=[*manifest.cases, manifest.cases[0]]), rows


def two_patients() -> Cohort:
    manifest, rows = cohort(images())
    names = {"a": "x", "b": "x", "c": "y", "d": "y"}
    return replace(manifest, cases=[replace(one, patient=names[one.case]) for one in manifest.cases]), rows


def without_statistics_of_a_slice() -> Cohort:
    manifest, rows = cohort(images())
    return manifest, rows[~((rows.case == "b") & (rows.slice == 2))]


def other_channel_name() -> Cohort:
    manifest, rows = cohort(images())
    return manifest, rows.assign(channel=rows.channel.where(rows.case != "c", rows.channel.replace("t1c", "t2w")))


def nearly_empty(of: Images) -> None:
    of["b"][:] = 0
    of["b"][1, 2, 2] = 90, 95


def copied_channel(of: Images) -> None:
    of["b"][..., 1] = of["b"][..., 0]


TRIPS: list[tuple[str, str, Callable[[], Cohort], set[str]]] = [
    ("at least three patients", "critical", two_patients, set()),
    ("every patient in one split", "critical", with_entry("c", patient="patient a"), {"a", "c"}),
    ("splits are train, validation and test", "critical", with_entry("d", split="train"), set()),
    ("case names are unique", "critical", doubled, {"a"}),
    ("slices between 1 and 4096", "critical", with_entry("b", slices=0), {"b"}),
    ("height between 1 and 4096", "critical", with_entry("b", height=5000), {"b"}),
    ("width between 1 and 4096", "critical", with_entry("b", width=0), {"b"}),
    ("spacing is positive", "critical", with_entry("b", spacing=(1.0, 0.0, 1.0)), {"b"}),
    ("spacing is known for all cases or for none", "warning", with_entry("b", spacing=None), set()),
    ("spacing is like that of other cases", "warning", with_entry("b", spacing=(12.0, 1.0, 1.0)), {"b"}),
    ("as many slices as other cases", "warning", with_entry("b", slices=20), {"b"}),
    ("statistics cover every slice and channel", "critical", without_statistics_of_a_slice, {"b"}),
    ("training patients have lesions", "critical", with_entries(lesion_voxels=0), set()),
    ("validation patients have lesions", "warning", with_entry("c", lesion_voxels=0), set()),
    ("test patients have lesions", "warning", with_entry("d", lesion_voxels=0), set()),
    ("every case has a lesion", "warning", with_entry("b", lesion_voxels=0), {"b"}),
    ("lesions fill less than half of the volume", "critical", with_entry("b", lesion_voxels=72), {"b"}),
    ("channels are those of the manifest", "critical", other_channel_name, set()),
    ("every value is a finite number", "critical", with_images(put("b", (0, 1, 1, 1), np.nan)), {"b"}),
    ("no channel is constant", "critical", with_images(put("b", (..., 1), 7)), {"b"}),
    ("intensities are within the range of scanners", "warning", with_images(put("b", (0, 0, 0, 0), 1e9)), {"b"}),
    ("intensities are within the range of scanners", "warning", with_images(put("b", (0, 0, 0, 0), -1e9)), {"b"}),
    ("the head fills some of the picture", "warning", with_images(nearly_empty), {"b"}),
    ("no channel is a copy of another", "warning", with_images(copied_channel), {"b"}),
    ("no image is in two splits", "critical", with_images(copy_slice("a", "c")), {"a", "c"}),
    ("no image belongs to two patients", "warning", with_images(copy_slice("a", "b")), {"a", "b"}),
]


def test_a_sound_cohort_passes_and_leaves_its_papers(tmp_path: Path) -> None:
    manifest, rows = cohort(images())
    verdict = validate(manifest, rows, tmp_path)
    assert verdict.passed and not verdict.critical and not verdict.warnings
    assert set(verdict.expectations) == {one.name for one in expectations(manifest)}
    require(verdict)
    assert Verdict.read(tmp_path / "verdict.json") == verdict
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data_docs", "validation.html", "verdict.json"]
    assert len(list((tmp_path / "data_docs" / "validations").rglob("*.html"))) == 3
    page = (tmp_path / "validation.html").read_text()
    assert "a &lt;note&gt;" in page and "://" not in page and "<script" not in page


def test_every_expectation_has_a_cohort_that_trips_it() -> None:
    manifest, _ = cohort(images())
    assert {name for name, *_ in TRIPS} == {one.name for one in expectations(manifest)}


@pytest.mark.parametrize("name, severity, make, cases", TRIPS)
def test_expectation_is_tripped(
    tmp_path: Path, name: str, severity: str, make: Callable[[], Cohort], cases: set[str]
) -> None:
    verdict = validate(*make(), tmp_path)
    found = {finding.expectation: finding for finding in (*verdict.critical, *verdict.warnings)}
    assert name in found, list(found)
    assert found[name].severity == severity
    assert set(found[name].cases) == cases
    assert found[name].found and found[name].remedy
    assert verdict.passed == (not verdict.critical)
    written = json.loads((tmp_path / "verdict.json").read_text())
    assert name in [one["expectation"] for one in written["critical" if severity == "critical" else "warnings"]]
    assert name in (tmp_path / "validation.html").read_text()


def test_what_stops_a_run_names_the_cases(tmp_path: Path) -> None:
    verdict = validate(*with_images(put("b", (0, 1, 1, 1), np.nan))(), tmp_path)
    assert str(verdict.critical[0]).startswith("every value is a finite number: found b t1c: 1 [b]. Replace NaN")
    with pytest.raises(ValidationFailed, match=r"unfit for training, 1 findings:\n- every value .*\[b\]"):
        require(verdict)


def test_a_long_list_of_cases_is_cut_in_words_and_whole_in_the_file() -> None:
    finding = Finding("x", "warning", "y", tuple(map(str, range(30))), "z")
    assert str(finding) == "x: y [0, 1, 2, 3, 4, 5, 6, 7 and 22 more]. z"


def test_a_second_verdict_replaces_the_first(tmp_path: Path) -> None:
    validate(*with_entry("b", slices=0)(), tmp_path)
    verdict = validate(*cohort(images()), tmp_path)
    assert Verdict.read(tmp_path / "verdict.json") == verdict and verdict.passed
    assert len(list((tmp_path / "data_docs" / "validations").rglob("*.html"))) == 3


def test_papers_of_two_ingests_are_refused(tmp_path: Path) -> None:
    manifest, rows = cohort(images())
    with pytest.raises(DataError, match="cases that the manifest lacks: a"):
        validate(replace(manifest, cases=manifest.cases[1:]), rows, tmp_path)
    with pytest.raises(DataError, match="lack the columns digest"):
        validate(manifest, rows.drop(columns="digest"), tmp_path)


def test_real_copies_of_flair_are_named(tmp_path: Path, shared_data: Path) -> None:
    manifest = ingest(str(shared_data / "tcga-lgg"), tmp_path / "cohort")
    verdict = validate(manifest, pandas.read_parquet(tmp_path / "cohort" / "statistics.parquet"), tmp_path / "out")
    assert verdict.passed
    found = {finding.expectation: set(finding.cases) for finding in verdict.warnings}
    assert found == {"no channel is a copy of another": {"TCGA_DU_6407_19860514", "TCGA_HT_7877_19980917"}}
