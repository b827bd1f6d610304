"""Order, errors and memory of work that is done side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

from metseg import parallel
from metseg.dataset.image_statistics import ROWS_AT_ONCE, StatisticsFile
from metseg.errors import DataError, UsageError
from metseg.parallel import in_processes, in_threads, usable_cores

ROOT = Path(__file__).resolve().parents[1]
Side = Callable[[Callable[[int], Any], list[int], int], Iterator[Any]]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("side_by_side", [in_processes, in_threads])
def test_results_come_in_order(side_by_side: Side, workers: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.01 if item % 3 == 0 else 0)
        return item * item

    assert list(side_by_side(work, list(range(20)), workers)) == [item * item for item in range(20)]


@pytest.mark.parametrize("side_by_side", [in_processes, in_threads])
def test_the_first_error_ends_it(side_by_side: Side) -> None:
    def work(item: int) -> int:
        if item == 3:
            raise DataError("case 3 is broken")
        return item

    with pytest.raises(DataError, match=r"^case 3 is broken$"):
        list(side_by_side(work, list(range(20)), 2))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_items_are_worked_on_in_processes_unless_this_one_has_threads() -> None:
    script = """
import os, threading
from metseg.parallel import in_processes
where, here = (lambda item: os.getpid()), os.getpid()
assert here not in set(in_processes(where, range(12), 2))
assert set(in_processes(where, range(2), 2)) == {here}
stop = threading.Event()
threading.Thread(target=stop.wait).start()
assert set(in_processes(where, range(12), 2)) == {here}
stop.set()
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_a_killed_process_is_told_of() -> None:
    script = """
import os, signal
from metseg.parallel import in_processes
from metseg.errors import MetsegError
try:
    list(in_processes(lambda item: os.kill(os.getpid(), signal.SIGKILL), range(12), 2))
except MetsegError as error:
    print(error)
"""
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0 and "METSEG_WORKERS=1" in answer.stdout


def test_cores_come_from_the_environment_or_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METSEG_WORKERS", "3")
    assert usable_cores() == 3
    monkeypatch.setenv("METSEG_WORKERS", "many")
    with pytest.raises(UsageError, match="METSEG_WORKERS"):
        usable_cores()
    monkeypatch.delenv("METSEG_WORKERS")
    monkeypatch.setattr(parallel, "CPU_QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert usable_cores() == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores() == len(os.sched_getaffinity(0))


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "case": f"c{n}",
            "slice": n,
            "mean": float("nan") if n < 10 else n / 7,
            "sizes": [n] if n >= ROWS_AT_ONCE else [],
        }
        for n in range(start, start + count)
    ]


def test_the_table_is_the_one_that_pandas_would_write(tmp_path: Path) -> None:
    everything = rows(3 * ROWS_AT_ONCE + 5)
    with StatisticsFile(tmp_path / "streamed.parquet") as file:
        for start in range(0, len(everything), 1000):
            file.add(everything[start : start + 1000])
    pandas.DataFrame(everything).to_parquet(tmp_path / "whole.parquet", index=False)
    streamed, whole = (pandas.read_parquet(tmp_path / f"{name}.parquet") for name in ("streamed", "whole"))
    streamed["sizes"], whole["sizes"] = streamed["sizes"].map(list), whole["sizes"].map(list)
    pandas.testing.assert_frame_equal(streamed, whole)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no slice"), StatisticsFile(tmp_path / "x.parquet"):
        pass


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from benchmarks.data import peak_memory_mb
from metseg.dataset.image_statistics import StatisticsFile
from tests.test_parallel import rows
with StatisticsFile(Path({str(tmp_path)!r}) / "x.parquet") as file:
    for start in range(0, int(sys.argv[1]), 100):
        file.add(rows(100, start))
print(peak_memory_mb())
"""
    peaks = [
        float(
            subprocess.run(
                [sys.executable, "-c", script, str(count)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            ).stdout
        )
        for count in (10_000, 100_000)
    ]
    assert peaks[1] < 1.1 * peaks[0]
