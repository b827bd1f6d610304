"""The contest of recipes: its folds, its sums, and a tiny one that is stopped and taken up again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.contest import RECIPES, Job, main, plan, recipes_of, split_of, variant
from benchmarks.contest_summary import finished, summary_figures

PATIENTS = [f"TCGA_XX_{number:04d}" for number in range(18)]


def test_each_patient_is_held_back_once_and_never_trained_on_then() -> None:
    splits = [split_of(PATIENTS, 3, fold) for fold in range(3)]
    for patient in PATIENTS:
        assert sorted(split[patient] == "test" for split in splits) == [False, False, True]
    for split in splits:
        counts = [list(split.values()).count(name) for name in ("train", "validation", "test")]
        assert set(split) == set(PATIENTS) and counts == [9, 3, 6]


def test_every_fold_meets_every_seed_in_three_rounds() -> None:
    jobs = plan(["unet", "plain"], folds=3, rounds=3)
    assert len(set(jobs)) == len(jobs) == 18
    assert {(job.fold, job.seed) for job in jobs} == {(fold, seed) for fold in range(3) for seed in (1, 2, 3)}
    first = jobs[:6]
    assert {job.fold for job in first} == {0, 1, 2} and {job.seed for job in first} == {1, 2, 3}


def result(recipe: str, fold: int, dices: dict[str, float], validation: float = 0.5) -> dict[str, Any]:
    scores = {patient: {"dice": dice, "lesion_f1": dice / 2} for patient, dice in dices.items()}
    return {
        **vars(Job(recipe, fold + 1, fold)),
        "patients": scores,
        "validation": {"dice": validation},
        "code": "c",
    }


def whole_contest() -> list[dict[str, Any]]:
    """Two folds of two patients; nested is better on validation and 0.1 above the U-Net but for one patient."""
    given = {
        "nested_unet": (0.9, 0.8, 0.7, 0.5),
        "attention_unet": (0.95, 0.85, 0.75, 0.65),
        "unet": (0.8, 0.7, 0.6, 0.55),
        "plain": (0.5, 0.4, 0.3, 0.2),
    }
    return [
        result(
            recipe,
            fold,
            dict(zip(("ab", "cd")[fold], dices[2 * fold : 2 * fold + 2], strict=True)),
            0.9 if recipe == "nested_unet" else 0.6,
        )
        for recipe, dices in given.items()
        for fold in (0, 1)
    ]


def test_the_better_network_on_validation_is_held_against_the_bars() -> None:
    figures = {figure.name: figure for figure in summary_figures(whole_contest(), list(RECIPES), 8)}
    assert figures["Dice of nested_unet"].value == pytest.approx((0.9 + 0.8 + 0.7 + 0.5) / 4)
    assert figures["lesion F1 of unet"].value == pytest.approx((0.8 + 0.7 + 0.6 + 0.55) / 8)
    assert figures["Dice of attention_unet minus that of plain"].value == pytest.approx(0.45)
    above = figures["Dice of nested_unet minus that of plain, above"]
    # Differences are 0.4, 0.4, 0.4, 0.3: of 256 resamples 1 takes the last alone, 13 take it three times or more.
    assert above.value == pytest.approx(0.325) and above.verdict == "pass"
    beside = figures["Dice of nested_unet minus that of unet, not below"]
    assert beside.verdict == "pass" and "mean +0.062" in beside.note


def test_a_network_below_the_baseline_misses_its_bar() -> None:
    results = whole_contest()
    for one in results:
        if one["recipe"] == "nested_unet":
            one["patients"] = {patient: {"dice": 0.1, "lesion_f1": 0.1} for patient in one["patients"]}
    figures = {figure.name: figure for figure in summary_figures(results, list(RECIPES), 8)}
    assert figures["Dice of nested_unet minus that of unet, not below"].verdict == "miss"
    assert figures["Dice of nested_unet minus that of plain, above"].verdict == "miss"


def test_bars_wait_for_the_whole_contest() -> None:
    results = [one for one in whole_contest() if (one["recipe"], one["fold"]) != ("plain", 1)]
    assert {one["fold"] for one in finished(results, list(RECIPES))} == {0}
    figures = {figure.name: figure for figure in summary_figures(results, list(RECIPES), 8)}
    assert figures["Dice of unet"].value == pytest.approx(0.75)
    assert figures["bars of the contest"].verdict == "not measured"
    assert not [name for name in figures if name.endswith(("above", "not below"))]


def test_variants_are_held_against_what_they_vary() -> None:
    recipes = recipes_of(
        [], [variant("train_ema=0"), variant("train_augmentation=false"), variant("train_loss=tversky")]
    )
    assert list(recipes) == [
        "nested_unet",
        "nested_unet, train_ema=0.0",
        "nested_unet, train_augmentation=False",
        "nested_unet, train_loss=tversky",
    ]
    assert recipes["nested_unet, train_augmentation=False"] == {"architecture": "nested_unet", "augmentation": False}
    results = [
        result("nested_unet", 0, {"a": 0.5, "b": 0.7}),
        result("nested_unet, train_ema=0.0", 0, {"a": 0.6, "b": 0.6}),
    ]
    figures = {figure.name: figure for figure in summary_figures(results, list(recipes)[:2], 2)}
    change = figures["Dice of nested_unet, train_ema=0.0 minus that of nested_unet"]
    assert change.value == pytest.approx(0.0) and "[-0.100, +0.100]" in change.note and change.verdict == "no bar"
    for wrong in ("speed=1", "ema=0", "train_ema", "train_ema=much", "train_augmentation=perhaps", "data_clahe=on"):
        with pytest.raises(argparse.ArgumentTypeError):
            variant(wrong)


def test_results_of_two_versions_of_the_code_are_no_contest() -> None:
    results = whole_contest()
    results[0]["code"] = "other"
    (versions,) = (f for f in summary_figures(results, list(RECIPES), 8) if f.name.startswith("versions"))
    assert versions.verdict == "miss"


def write_patient(folder: Path, name: str, seed: int) -> None:
    """Five slices, a bright square on three of them."""
    rng = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True)
    for number in range(1, 6):
        image = rng.integers(20, 120, (40, 40, 3)).astype(np.uint8)
        mask = np.zeros((40, 40), np.uint8)
        if number > 2:
            row, column = rng.integers(8, 24, 2)
            mask[row : row + 8, column : column + 8] = 255
            image[mask > 0] += 100
        Image.fromarray(image).save(folder / name / f"{name}_{number}.tif")
        Image.fromarray(mask).save(folder / name / f"{name}_{number}_mask.tif")


@pytest.fixture
def contest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The command in this process, which spares TensorFlow's import: gives its exit status and what it prints."""
    budget = {"data_image_size": 32, "train_filters": 2, "train_depth": 1, "train_epochs": 2}
    budget |= {"train_steps_per_epoch": 3, "train_batch_size": 4}
    tiny = ["--folds=2", *(f"--param={name}={value}" for name, value in budget.items())]

    def once(data: Path, out: Path, *more: str) -> tuple[int, str]:
        arguments = [str(data), f"--out={out}", *tiny, "--recipe=unet", "--recipe=plain", *more]
        monkeypatch.setattr(sys, "argv", ["contest", *arguments])
        return main(), capsys.readouterr().out

    return once


def test_a_tiny_contest_is_done_in_pieces(tmp_path: Path, contest: Callable[..., tuple[int, str]]) -> None:
    for number in range(6):
        write_patient(tmp_path / "kaggle_3m", f"TCGA_XX_{number:04d}_19990101", number)
    _, first = contest(tmp_path / "kaggle_3m", tmp_path / "out", "--jobs=1")
    assert "unet-fold0-seed1 epoch 2/2" in first and "no fold by all recipes" in first
    kept = (tmp_path / "out" / "unet-fold0-seed1.json").read_bytes()
    status, rest = contest(tmp_path / "kaggle_3m", tmp_path / "out")
    assert status == 0, rest[-2000:]
    assert "unet-fold0" not in rest and "plain-fold1-seed2 epoch 2/2" in rest
    assert (tmp_path / "out" / "unet-fold0-seed1.json").read_bytes() == kept
    results = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*-seed*.json"))]
    plain = [one for one in results if one["recipe"] == "plain"]
    assert len(plain) == 2 and len({patient for one in plain for patient in one["patients"]}) == 6
    assert plain[0]["settings"]["head_weights"] == "1" and plain[0]["settings"]["lesion_share"] == 0.6
    assert "Dice of plain" in rest and "over 6 patients, 2 training runs" in rest
    with pytest.raises(RuntimeError, match="other settings"):
        contest(tmp_path / "kaggle_3m", tmp_path / "out", "--param=train_epochs=1")
