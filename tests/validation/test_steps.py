"""Validate and register between them: statistics go with a version, and later data are held against them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.register.step import keep_reference
from components.validate.step import validate
from metseg.errors import ValidationFailed
from metseg.files import read_json
from metseg.imaging.case import Case, write_case
from metseg.imaging.geometry import Geometry
from metseg.settings import Settings
from metseg.tracking import mlflow_runs, model_registry
from metseg.validation.reference_statistics import describe
from tests.mlflow_store import crown, fresh_store
from tests.validation.cohorts import CHANNELS, SHAPE, Images, cohort, images

MODEL = "brain-mets-segmentation-steps"


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracking")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METSEG_WORKSPACE", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store(folder))
        patch.setenv("METSEG_ARTIFACT_ROOT", (folder / "artifacts").as_uri())
        yield mlflow_runs.client(Settings.from_environment())


def new_run(tracking) -> str:
    return mlflow_runs.start_run(tracking, Settings.from_environment(), "r", {}, {})


def write_cohort(folder: Path, of: Images) -> Path:
    """A cohort on disk, as ingest leaves it."""
    manifest, rows = cohort(of)
    manifest.write(folder / "manifest.json")
    rows.to_parquet(folder / "statistics.parquet", index=False)
    for entry in manifest.cases:
        case = Case(entry.case, entry.patient, CHANNELS, Geometry.unknown(), ("0", "1", "2", "3"), ())
        write_case(folder / "cases" / entry.case, case, of[entry.case], np.zeros(SHAPE[:3], np.uint8))
    return folder


def registered(tracking, tmp_path: Path, of: Images) -> int:
    """Register a version the way the register step does, with its reference statistics, as champion."""
    folder = write_cohort(tmp_path / "before", of)
    run = new_run(tracking)
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    tracking.log_artifact(run, str(tmp_path / "MLmodel"), "model")
    keep_reference(tracking, run, folder, cohort(of)[0], tmp_path)
    number = model_registry.register(tracking, MODEL, run, "model", {}, "")
    crown(tracking, MODEL, number)
    return number


def test_drift_is_judged_from_the_first_champion_on(tracking, tmp_path, caplog):
    caplog.set_level("INFO")
    brighter = {case: image * np.array([1, 3], np.float32) for case, image in images(100).items()}
    after = write_cohort(tmp_path / "after", brighter)

    first = new_run(tracking)
    validate(after, first, MODEL, tmp_path / "first", tmp_path / "first.html")
    assert read_json(tmp_path / "first" / "verdict.json")["reference"] == ""
    assert "no champion yet" in caplog.text

    registered(tracking, tmp_path, images())
    second = new_run(tracking)
    validate(after, second, MODEL, tmp_path / "second", tmp_path / "ui" / "second.html")
    verdict = read_json(tmp_path / "second" / "verdict.json")
    moved = [one["found"] for one in verdict["warnings"] if "Kolmogorov" in one["expectation"]]
    assert verdict["passed"] and moved and "t1c mean" in moved[0]
    assert "data:image/jpeg" not in (tmp_path / "ui" / "second.html").read_text()  # no finding names a case
    metrics = tracking.get_run(second).data.metrics
    assert metrics["validation.critical"] == 0 and metrics["validation.warnings"] == len(verdict["warnings"])
    assert metrics["validation.largest_psi"] == max(row["psi"] for row in verdict["drift"])
    assert {entry.path for entry in tracking.list_artifacts(second, "validation")} == {
        "validation/verdict.json",
        "validation/validation.html",
    }


def test_the_reference_that_is_fetched_is_the_one_that_was_kept(tracking, tmp_path):
    registered(tracking, tmp_path, images())
    from components.validate.step import champions_reference

    manifest, rows = cohort(images())
    assert champions_reference(tracking, MODEL) == describe(manifest, rows)
    assert champions_reference(tracking, "a-model-that-is-not-there") is None


def test_a_champion_without_reference_statistics_is_no_obstacle(tracking, tmp_path, caplog):
    from components.validate.step import champions_reference

    run = new_run(tracking)
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    tracking.log_artifact(run, str(tmp_path / "MLmodel"), "model")
    number = model_registry.register(tracking, "old", run, "model", {}, "")
    crown(tracking, "old", number)
    assert champions_reference(tracking, "old") is None
    assert "has no reference/reference_statistics.json" in caplog.text


def test_a_critical_finding_fails_the_run_and_shows_the_slice(tracking, tmp_path):
    of = images()
    of["b"][0, 9, 9, 1] = np.nan
    folder = write_cohort(tmp_path / "cohort", of)
    run = new_run(tracking)
    with pytest.raises(ValidationFailed, match=r"every value is a finite number.*\[b\]"):
        validate(folder, run, "no-model", tmp_path / "out", tmp_path / "page.html")
    assert tracking.get_run(run).info.status == "FAILED"
    assert tracking.get_run(run).data.metrics["validation.critical"] == 1
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 1 and "b, t1c, slice" in page


def test_reference_is_of_training_patients_alone():
    manifest, rows = cohort(images())
    only = replace(manifest, cases=manifest.cases_in("train"))
    assert (
        describe(manifest, rows).statistics["lesions"]
        == describe(only, rows[rows["case"].isin([entry.case for entry in only.cases])]).statistics["lesions"]
    )
