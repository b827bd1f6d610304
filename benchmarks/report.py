"""Time and size of the report of 100 test patients: `python -m benchmarks.report`."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.processes import answered, peak_memory_mb

MOST_SECONDS = 60.0
MOST_MEGABYTES = 10.0
PATIENTS = 100
SHAPE = (24, 240, 240)


def write(root: Path) -> dict[str, float]:
    """Write the report of the run below `root`; return its figures.

    They are the seconds, with its imports, the size and the memory.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    from benchmarks.synthetic_run import run_folders
    from metseg.report.run_report import write_run_report

    folders = run_folders(root)
    write_run_report(folders, 10.0, root / "page.html")
    return {
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "megabytes": round((folders.promoted / "report.html").stat().st_size / 1e6, 2),
        "peak_memory_mb": round(peak_memory_mb()),
    }


def measure(patients: int, rounds: int) -> list[dict[str, float]]:
    """Make a run up once and write its report in processes of its own."""
    from benchmarks.synthetic_run import MadeUp, make_run

    with tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder:
        print(f"making up {patients} test patients of {' × '.join(map(str, SHAPE))} voxels …", flush=True)
        make_run(Path(folder), MadeUp(patients=patients, shape=SHAPE))
        return [answered("benchmarks.report", ["--write", folder]) for _ in range(rounds)]


def main() -> None:
    """Print the table, write the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=PATIENTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT / "report.json")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        print(json.dumps(write(given.write)))
        return
    measured = sorted(measure(given.patients, given.rounds), key=lambda one: one["seconds"])
    middle = measured[len(measured) // 2]
    name = f"report of {given.patients} test patients, two networks and a champion, with imports"
    figures = [
        Figure(name, middle["seconds"], at_most=MOST_SECONDS, unit="s"),
        Figure("  the same in CPU seconds", middle["cpu_seconds"], unit="s"),
        Figure("  its size", middle["megabytes"], at_most=MOST_MEGABYTES, unit="MB"),
        Figure("  peak memory", middle["peak_memory_mb"], unit="MB"),
    ]
    print(table(figures))
    write_figures(given.out, figures, measured=measured)


if __name__ == "__main__":
    main()
