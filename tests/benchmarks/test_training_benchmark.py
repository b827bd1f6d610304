"""The training benchmark on a tiny cohort; PyTorch's twins of the networks where PyTorch is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.processes import answered
from benchmarks.speed import MOST_DIFFERENCE, PEERS, Size, figures_of, measured
from benchmarks.training import multiplied
from tests.training.tiny import write_records

TINY = Size(batch=2, side=32, filters=2, steps=1)


def test_a_cohort_is_multiplied_without_copying(tmp_path: Path) -> None:
    write_records(tmp_path / "records")
    tenfold = multiplied(tmp_path / "records", tmp_path / "tenfold", 10)
    assert len(list((tenfold / "train").iterdir())) == 20
    assert len(list((tenfold / "validation").iterdir())) == 10
    first = next((tenfold / "train").iterdir())
    assert first.stat().st_nlink == 11


def test_ratios_are_taken_round_by_round() -> None:
    def speeds(*values: float) -> list[dict[str, float]]:
        return [{"images_per_second": v, "images_per_cpu_second": v / 2, "parameters": 7} for v in values]

    taken = {"ours": speeds(4.0, 2.0, 9.0), "torch": speeds(5.0, 2.0, 10.0), "medicai": speeds(1.0, 4.0, 1.0)}
    found = {figure.name.strip(): figure for figure in figures_of("nested_unet", TINY, taken)}
    assert found["ours over PyTorch, nested_unet"].value == pytest.approx(0.9)
    assert found["ours over PyTorch, nested_unet"].verdict == "no bar"
    assert found["ours over medicai, nested_unet"].value == pytest.approx(4.0)
    assert found["ours over medicai, nested_unet"].verdict == "pass"


def test_our_contestant_trains() -> None:
    found = measured("ours", "attention_unet", TINY)
    assert found["images_per_second"] > 0 and 0 < found["loss"] < 3


@pytest.mark.parametrize("work", ["trained", "epoch"])
def test_a_part_is_measured_on_given_records(tmp_path: Path, work: str) -> None:
    write_records(tmp_path)
    found = answered("benchmarks.training", ["--measure", work, str(tmp_path), "attention_unet", "--steps=1"])
    assert all(value > 0 for values in found.values() for value in (values if isinstance(values, list) else [values]))


@pytest.mark.skipif(
    not (PEERS / "torch").is_dir(),
    reason="PyTorch is installed by `make bench` alone",
)
@pytest.mark.parametrize("architecture", ["nested_unet", "attention_unet"])
def test_the_network_in_pytorch_is_the_same_network(architecture: str) -> None:
    assert measured("same", architecture, TINY)["difference"] < MOST_DIFFERENCE / 10
    assert measured("torch", architecture, TINY)["parameters"] == measured("ours", architecture, TINY)["parameters"]
