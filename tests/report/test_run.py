"""What is gathered from the steps' folders: the report, the page of the verdict, the pictures of the worst cases."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.synthetic_run import MadeUp, make_run
from metseg.dataset.manifest import Manifest
from metseg.files import read_json
from metseg.report.evaluation_data import (
    WORST_CASES,
    WORST_CASES_LIST,
    network_content,
    write_calibration,
    write_worst_cases,
)
from metseg.report.run_report import write_run_report
from metseg.report.style import TRUTH
from metseg.report.verdict_page import verdict_content, write_verdict_page
from metseg.scoring.unscored_champion import Absent, Incomparable
from metseg.scoring.verdict import Verdict
from metseg.tracking.registration import Registration
from metseg.training.result_records import EvaluationRecord

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), MadeUp(patients=6, flips=False))


@pytest.fixture(scope="module")
def judged(folders, tmp_path_factory):
    """The page of the verdict, written where nothing can be drawn."""
    page = tmp_path_factory.mktemp("page") / "verdict.html"
    program = (
        "import sys\n"
        "class NoPlotting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('matplotlib', 'tensorflow', 'keras'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, NoPlotting())\n"
        "from pathlib import Path\n"
        "from metseg.report.verdict_page import verdict_content, write_verdict_page\n"
        "cohort, one, other, champion, registration, page = map(Path, sys.argv[1:])\n"
        "write_verdict_page(page, verdict_content(cohort, [one, other], champion, registration))\n"
    )
    given = [folders.validation, *folders.evaluations, folders.champion, folders.registration, page]
    subprocess.run([sys.executable, "-c", program, *map(str, given)], check=True, cwd=ROOT)
    return page.read_text(encoding="utf-8")


def test_register_shows_every_check_without_a_plotting_library(judged, folders):
    verdict = read_json(folders.registration / "verdict.json")
    assert len(verdict["checks"]) >= 9
    for check in verdict["checks"]:
        assert check["detail"].split("(")[0] in judged
    for words in ("Champion v3", "brain-mets-segmentation version 4", "Model card", "Not a medical device"):
        assert words in judged
    assert "<img" not in judged and "<script" not in judged


def test_a_rejected_candidate_is_told_with_what_failed(folders, tmp_path):
    verdict = Verdict.read(folders.registration / "verdict.json")
    checks = list(verdict.checks)
    checks[3] = replace(checks[3], passed=False)
    replace(verdict, passed=False, outcome="rejected", summary="It is rejected.", checks=tuple(checks)).write(
        tmp_path / "verdict.json"
    )
    Registration("r").write(tmp_path / "registration.json")
    content = verdict_content(folders.validation, folders.evaluations, folders.champion, tmp_path)
    write_verdict_page(tmp_path / "page.html", content)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Rejected" in page and f"1 of {len(checks)} checks failed" in page and "✕ failed" in page
    assert "Model card" not in page and "registered" not in content.facts


@pytest.mark.parametrize("opponent", [Absent(), Incomparable(3, "unet", ("t2w",), ("1",))])
def test_a_champion_that_was_not_scored_has_no_column(folders, tmp_path, opponent):
    opponent.write(tmp_path / "evaluation.json")
    content = verdict_content(folders.validation, folders.evaluations, tmp_path, folders.registration)
    assert [network.champion for network in content.networks] == [None, None]


def test_the_run_leaves_report_charts_overlay_and_summary(folders, tmp_path):
    write_run_report(folders, 1.0, tmp_path / "deep" / "page.html")
    left = {path.name for path in folders.promoted.iterdir()}
    assert {"summary.json", "report.html", "overlay.png", "figures"} <= left
    assert (tmp_path / "deep" / "page.html").read_bytes() == (folders.promoted / "report.html").read_bytes()
    assert len(list((folders.promoted / "figures").glob("*.png"))) == 9


def test_worst_cases_are_the_patients_of_lowest_dice_with_a_picture_each(folders):
    record = EvaluationRecord.read(folders.evaluations[0] / "evaluation.json")
    write_worst_cases(folders.evaluations[0], record, Manifest.read(folders.validation / "manifest.json"))
    kept = folders.evaluations[0] / WORST_CASES
    listed = read_json(kept / WORST_CASES_LIST)
    dice = {patient: scores.dice for patient, scores in record.patients.items()}
    assert [entry["patient"] for entry in listed] == sorted(dice, key=dice.get)[:3]
    assert sorted(path.name for path in kept.glob("*.png")) == [entry["picture"] for entry in listed]
    for entry in listed:
        with Image.open(kept / entry["picture"]) as picture:
            pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert (pixels == tuple(bytes.fromhex(TRUTH[1:]))).all(axis=1).any(), "the outline of the truth"
        assert f"Dice {dice[entry['patient']]:.2f}" in entry["caption"] and "most error" in entry["caption"]


def test_a_perfect_patient_is_no_worst_case(folders, tmp_path):
    record = EvaluationRecord.read(folders.evaluations[0] / "evaluation.json")
    (first, *perfect) = record.patients
    patients = {first: record.patients[first], **{one: replace(record.patients[one], dice=1.0) for one in perfect}}
    (tmp_path / "overlays").symlink_to(folders.evaluations[0] / "overlays")
    write_worst_cases(tmp_path, replace(record, patients=patients), Manifest.read(folders.validation / "manifest.json"))
    assert len(read_json(tmp_path / WORST_CASES / WORST_CASES_LIST)) == 1


def test_the_reliability_curve_of_one_network_is_a_picture(folders, tmp_path):
    record = EvaluationRecord.read(folders.evaluations[0] / "evaluation.json")
    write_calibration(network_content(record), tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        assert min(picture.size) > 600 and len(np.unique(np.asarray(picture.convert("L")))) > 50
