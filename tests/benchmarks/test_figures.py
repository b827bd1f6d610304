"""Figures against their bars, and the choice and the run of benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, chosen
from benchmarks.data import figure_of, row
from benchmarks.figures import Figure, read_figures, table, write_figures
from benchmarks.processes import answered
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("figure", "verdict", "bar"),
    [
        (Figure("a", 1.0, at_least=1.0), "pass", "≥ 1"),
        (Figure("a", 0.99, at_least=1.0), "miss", "≥ 1"),
        (Figure("a", 1.05, at_most=1.05), "pass", "≤ 1.05"),
        (Figure("a", 1.06, at_most=1.05), "miss", "≤ 1.05"),
        (Figure("a", 7_759_521, 7_759_521, 7_759_521), "pass", "= 7,759,521"),
        (Figure("a", 7_759_520, 7_759_521, 7_759_521), "miss", "= 7,759,521"),
        (Figure("a", float("nan"), at_least=1.0), "miss", "≥ 1"),
        (Figure("a", 0.5), "no bar", "–"),
        (Figure("a", None, at_least=1.0), "not measured", "≥ 1"),
    ],
)
def test_a_figure_is_held_against_its_bar(figure: Figure, verdict: str, bar: str) -> None:
    assert (figure.verdict, figure.bar) == (verdict, bar)


def test_figures_come_back_from_their_file(tmp_path: Path) -> None:
    figures = [Figure("speed", 1.25, at_least=1.0, unit="images/s", note="said"), Figure("none", None)]
    write_figures(tmp_path / "deep" / "x.json", figures, rounds=3)
    assert read_figures(tmp_path / "deep" / "x.json") == figures
    written = json.loads((tmp_path / "deep" / "x.json").read_text(encoding="utf-8"))
    assert written["rounds"] == 3 and written["machine"]["cores"] >= 1 and written["machine"]["processor"]


def test_the_table_has_value_bar_and_verdict() -> None:
    lines = table([Figure("speed", 1.25, at_least=1.0, unit="images/s", note="said")]).splitlines()
    assert lines[-1] == "| speed | ≥ 1 images/s | 1.25 images/s | pass: said |"


def test_memory_that_grows_is_a_miss() -> None:
    assert figure_of(row("peak memory", 110.0, 100.0, unit="MB")).verdict == "pass"
    assert figure_of(row("peak memory", 112.0, 100.0, unit="MB")).verdict == "miss"
    assert figure_of(row("second ingest", 1.0, 19.0, bar=20.0)).verdict == "miss"


def test_names_choose_benchmarks_in_their_order() -> None:
    assert chosen([]) == list(BENCHMARKS)
    assert chosen(["training,data", "cost"]) == ["data", "cost", "training"]
    with pytest.raises(ValueError, match="no benchmark 'speling'"):
        chosen(["speling"])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_takes_a_file_to_write(name: str) -> None:
    assert '"--out"' in (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")


def test_a_run_prints_the_table_and_leaves_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "cost", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "[1/1] cost" in done.stdout and "| = 7,759,521 | 7,759,521 | pass |" in done.stdout
    assert read_figures(tmp_path / "results.json") == read_figures(tmp_path / "cost.json")


def test_peak_memory_is_that_of_the_process_itself() -> None:
    held = bytearray(300 << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    script = "import json; from benchmarks.processes import peak_memory_mb; print(json.dumps({'mb': peak_memory_mb()}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 5 < json.loads(done.stdout)["mb"] < 100


def test_a_failed_process_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"benchmarks\.nowhere"):
        answered("benchmarks.nowhere", [])
