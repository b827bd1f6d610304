"""`train_architectures`: what is not asked for is not trained, and a run of the baseline alone is a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import models
from components.network_selection import candidates, declined, declines
from metseg.errors import UsageError
from metseg.training.configuration import ARCHITECTURES, DEFAULT_ARCHITECTURES, architectures_of
from tests.mlflow_store import fresh_store
from tests.test_end_to_end import TINY, metseg


@pytest.fixture(scope="module")
def baseline(tmp_path_factory, phantom_cohort) -> tuple[Path, str]:
    """Folder and console of a run of the baseline alone."""
    workspace = tmp_path_factory.mktemp("baseline")
    phantom_cohort(workspace / "heads", 5)
    fresh_store(workspace / "var")
    settings = {**TINY, "train_architectures": "unet", "gate_test_time_flips": "false"}
    parameters = [part for name, value in settings.items() for part in ("--param", f"{name}={value}")]
    answer = metseg("run", "--data", "heads", *parameters, workspace=workspace)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    return workspace, answer.stdout


def test_names_are_those_of_the_networks():
    assert set(models.ARCHITECTURES) == set(ARCHITECTURES)
    assert architectures_of(DEFAULT_ARCHITECTURES) == ("nested_unet", "attention_unet")
    assert architectures_of(" unet , nested_unet ") == ("unet", "nested_unet")


@pytest.mark.parametrize("wrong", ["", " , ", "segnet", "unet,unet", "unet;nested_unet"])
def test_other_names_are_refused(wrong):
    with pytest.raises(UsageError, match="nested_unet, attention_unet, unet"):
        architectures_of(wrong)


def test_what_was_not_asked_for_is_no_candidate(tmp_path):
    assert declines(tmp_path / "a", "unet", ("nested_unet",))
    assert not declines(tmp_path / "b", "nested_unet", ("nested_unet",))
    assert declined(tmp_path / "a") and not declined(tmp_path / "b")
    assert candidates(unet=str(tmp_path / "a"), nested_unet=str(tmp_path / "b")) == {"nested_unet": tmp_path / "b"}


def test_a_run_of_the_baseline_alone_is_judged_registered_and_served(baseline):
    workspace, _ = baseline
    summary = json.loads((workspace / "runs/latest/summary.json").read_text(encoding="utf-8"))
    assert list(summary["models"]) == ["unet"] and summary["winner"] == "unet"
    assert summary["registered"]["aliases"] == ["champion"] and summary["served"]["version"] == 1
    assert "train unet" in summary["steps"] and "train nested_unet" not in summary["steps"]
    page = (workspace / "runs/latest/report.html").read_text(encoding="utf-8")
    assert "Nested U-Net" not in page and "U-Net" in page


def test_a_run_on_one_machine_has_tasks_for_the_networks_alone_that_are_asked_for(baseline):
    _, console = baseline
    assert "train unet" in console and "is not selected" not in console


def test_an_unknown_network_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "scans").mkdir()
    answer = metseg("run", "--data", "scans", "--param", "train_architectures=segnet", workspace=tmp_path)
    assert answer.returncode == 2 and "nested_unet, attention_unet, unet" in answer.stderr
