"""Ingest and preprocess compared with a plain loop of nibabel, NumPy and OpenCV.

The figures are slices per second, memory, and the second ingest.

Every measurement is a process of its own, and ours and the plain loop take turns. CPU seconds are those of the process
and its children; wall times suffer from whatever else the machine does. `python -m benchmarks.data --help` has options.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import OUT, Figure, write_figures
from benchmarks.processes import peak_memory_mb

SIDE = 144
COPIES = 10
MOST_GROWTH = 1.1
ONE_CORE, TWO_CORES, SECOND_INGEST = 1.0, 1.8, 20.0
"""Smallest ratios that pass."""


def plain(cohort: Path, out: Path, statistics: bool = True) -> None:
    """Compute the output of ingest and preprocess in a plain loop over one folder.

    It has no hashes, checks or records.
    """
    import cv2
    import nibabel
    import numpy as np

    from benchmarks.plain_statistics import plain_statistics

    equaliser = cv2.createCLAHE(2.0, (8, 8))
    rows: list[dict[str, Any]] = []
    for folder in sorted(cohort.iterdir()):
        volumes = []
        for name in ("t1n", "t2f", "t1c", "seg"):
            path = next(folder.glob(f"*-{name}.nii*"))
            canonical: Any = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
            volumes.append(np.asarray(canonical.dataobj)[::-1, ::-1].T)
        image, mask = np.stack(volumes[:3], axis=-1), np.isin(volumes[3], (1, 3)).astype(np.uint8)
        np.save(out / f"{folder.name}-image.npy", image)
        np.save(out / f"{folder.name}-mask.npy", mask)
        if statistics:
            rows += plain_statistics(folder.name, ("t1n", "t2f", "t1c"), image, mask)
        seen = np.zeros((len(image), SIDE, SIDE, 3), np.float32)
        for channel in range(3):
            voxels = image[..., channel].astype(np.float32)
            floor, bright = voxels.min(), np.percentile(voxels, 99, method="lower")
            head = voxels[voxels > floor + np.float32(0.1) * (bright - floor)]
            low, high = np.percentile(head, 1, method="lower"), np.percentile(head, 99.8, method="lower")
            grey = np.rint(np.clip((voxels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
            for place, plane in enumerate(grey):
                equal = equaliser.apply(plane)
                equal[plane == 0] = 0
                seen[place, ..., channel] = fitted(equal.astype(np.float32) / 255)
        np.save(out / f"{folder.name}-seen.npy", seen)
        lesion = np.stack([fitted(plane.astype(np.float32)) >= 0.5 for plane in mask])
        np.save(out / f"{folder.name}-lesion.npy", lesion.astype(np.uint8))
    import pandas

    pandas.DataFrame(rows).to_parquet(out / "statistics.parquet")


def fitted(plane: Any) -> Any:
    """A slice in a square of `SIDE`, its aspect kept."""
    import cv2
    import numpy as np

    scale = SIDE / max(plane.shape)
    height, width = (int(length * scale + 0.5) for length in plane.shape)
    square = np.zeros((SIDE, SIDE), np.float32)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square[top : top + height, left : left + width] = cv2.resize(plane, (width, height))
    return square


def unjudged(cohort: Path, out: Path) -> None:
    """The plain loop without the statistics."""
    plain(cohort, out, statistics=False)


def ours(cohort: Path, out: Path) -> None:
    """Ingest and preprocess."""
    from components.preprocess.step import preprocess
    from metseg.dataset.ingest import ingest

    ingest(str(cohort), out / "cohort")
    preprocess(out / "cohort", out / "records", image_size=SIDE)


def judged(cohort: Path, out: Path) -> None:
    """The statistics alone, of cases that `ours` left in `out`."""
    from metseg.dataset.image_statistics import slice_statistics
    from metseg.imaging.case import load_image, load_mask, read_case

    for folder in sorted((out / "cohort" / "cases").iterdir()):
        case = read_case(folder)
        slice_statistics(case.case, case.channels, case.slice_names, load_image(folder), load_mask(folder))


def again(cohort: Path, out: Path) -> dict[str, float]:
    """Seconds of a first and of a second ingest of the same folder."""
    from metseg.dataset.data_cache import DataCache
    from metseg.dataset.ingest import ingest

    cache = DataCache(out / "cache")
    seconds: dict[str, float] = {}
    for name in ("first", "second"):
        with timed(seconds, name):
            ingest(str(cohort), out / name, cache=cache)
    return seconds


WORK: dict[str, Callable[[Path, Path], Any]] = {
    "plain": plain,
    "unjudged": unjudged,
    "ours": ours,
    "judged": judged,
    "again": again,
}


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextmanager
def timed(into: dict[str, float], name: str = "") -> Iterator[None]:
    """Put wall and CPU seconds of the body into a dictionary."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    yield
    into[f"{name} wall".strip()] = time.perf_counter() - wall
    into[f"{name} cpu".strip()] = cpu_seconds() - cpu


def measure(work: str, cohort: Path, out: Path) -> None:
    """Do one piece of work in this process and print its figures as JSON."""
    import cv2
    import nibabel  # noqa: F401  (imports are not what is measured)
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import components.preprocess.step  # noqa: F401
    import metseg.dataset.ingest  # noqa: F401

    cv2.setNumThreads(1)
    seconds: dict[str, float] = {}
    with timed(seconds):
        extra = WORK[work](cohort, out)
    seconds["peak_mb"] = peak_memory_mb()
    print(json.dumps({**seconds, **(extra or {})}))


def measured(work: str, cohort: Path, out: Path, cores: int) -> dict[str, float]:
    """Return the figures of one piece of work in its own process and cores."""
    if work != "judged":
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    chosen = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
    environment = {**os.environ, "METSEG_WORKERS": str(cores), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = ["taskset", "-c", chosen, sys.executable, "-m", "benchmarks.data", "--measure", work]
    done = subprocess.run(
        [*command, str(cohort), str(out)], env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def require_same(plain_out: Path, ours_out: Path) -> None:
    """Stop if the two sides do not compute the same.

    Compared are canonical volumes, masks, inputs of the networks, and statistics.
    """
    import numpy as np
    import pandas as pd

    from metseg.dataset.manifest import Manifest
    from metseg.dataset.slice_files import RecordFile

    for entry in Manifest.read(ours_out / "cohort" / "manifest.json").cases[:2]:
        folder = ours_out / "cohort" / "cases" / entry.case
        record = RecordFile(ours_out / "records" / entry.split / f"{entry.case}.npy")
        pairs = [record.read(row) for row in range(len(record))]
        for name, computed in {
            "image": np.load(folder / "image.npy"),
            "mask": np.load(folder / "mask.npy"),
            "seen": np.stack([image for image, _ in pairs]),
            "lesion": np.stack([mask for _, mask in pairs]),
        }.items():
            np.testing.assert_array_equal(computed, np.load(plain_out / f"{entry.case}-{name}.npy"), err_msg=name)
    theirs, own = (
        pd.read_parquet(path).sort_values(["case", "slice", "channel"], ignore_index=True)
        for path in (plain_out / "statistics.parquet", ours_out / "cohort" / "statistics.parquet")
    )
    compared = own.columns.difference(["tilt_degrees"])  # the plain loop knows no geometry
    pd.testing.assert_frame_equal(own[compared], theirs[compared], check_dtype=False)


def multiplied(cohort: Path, target: Path, copies: int) -> Path:
    """The cohort's patients over and over under new names, by hard links."""
    for copy in range(copies):
        for folder in sorted(cohort.iterdir()):
            stem, number, time_point = folder.name.rsplit("-", 2)
            name = f"{stem}-{int(number) + 1000 * copy:05d}-{time_point}"
            (target / name).mkdir(parents=True)
            for file in folder.iterdir():
                os.link(file, target / name / file.name.replace(folder.name, name))
    return target


def compare(cohort: Path, scratch: Path, rounds: int, cores: int) -> list[dict[str, Any]]:
    """Measure metseg and the plain loop by turns on so many cores.

    The plain loop knows one core.
    """
    taken: dict[str, list[dict[str, float]]] = {"plain": [], "ours": [], "unjudged": [], "judged": []}
    for _ in range(rounds):
        taken["plain"].append(measured("plain", cohort, scratch / "plain", 1))
        taken["ours"].append(measured("ours", cohort, scratch / "ours", cores))
        if cores == 1:
            taken["unjudged"].append(measured("unjudged", cohort, scratch / "unjudged", 1))
            taken["judged"].append(measured("judged", cohort, scratch / "ours", 1))
    require_same(scratch / "plain", scratch / "ours")
    cases = sum(1 for _ in (scratch / "ours" / "records").rglob("*.npy"))
    rows = []
    for clock in ("cpu", "wall"):
        theirs, own = (statistics.median(one[clock] for one in taken[name]) for name in ("plain", "ours"))
        ratio = statistics.median(a[clock] / b[clock] for a, b in zip(taken["plain"], taken["ours"], strict=True))
        # Two cores take no fewer CPU seconds than one.
        bar = ONE_CORE if cores == 1 else TWO_CORES if clock == "wall" else None
        rows.append(row(f"ingest + preprocess, {cores} core(s), {cases} cases, {clock}", own, theirs, ratio, bar=bar))
        if cores == 1:
            judging, rest = (statistics.median(one[clock] for one in taken[name]) for name in ("judged", "unjudged"))
            rows.append(row(f"  without the statistics, {clock}", own - judging, rest))
    return rows


def row(
    name: str, own: float, other: float, ratio: float | None = None, unit: str = "s", bar: float | None = None
) -> dict[str, Any]:
    """Print and return one line of the table.

    It has metseg's value, the other value, the ratio, and the ratio's bar.
    """
    line = {"name": name, "ours": own, "other": other, "unit": unit, "ratio": ratio or other / own, "bar": bar}
    print(f"{name:<64} {own:9.3f} {other:9.3f} {unit:<3} × {line['ratio']:.2f}", flush=True)
    return line


def figure_of(row: dict[str, Any]) -> Figure:
    """Return a row of the table as a figure.

    Its value is the ratio of speeds, or the growth of memory.
    """
    note = f"{row['ours']:.3g} {row['unit']} against {row['other']:.3g} {row['unit']}"
    if row["unit"] == "MB":
        return Figure(row["name"], row["ours"] / row["other"], at_most=MOST_GROWTH, note=note)
    return Figure(row["name"], row["ratio"], at_least=row["bar"], note=note)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT / "data.json")
    parser.add_argument("--measure", nargs=3, metavar=("WORK", "COHORT", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure[0], Path(given.measure[1]), Path(given.measure[2]))
        return
    from metseg.phantom import generate_cohort

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        generate_cohort(scratch / "small", given.patients)
        middle = multiplied(scratch / "small", scratch / "middle", 3)
        large = multiplied(scratch / "small", scratch / "large", COPIES)
        rows = compare(scratch / "small", scratch, given.rounds, 1)
        if len(os.sched_getaffinity(0)) > 1:
            rows += compare(middle, scratch, given.rounds, 2)
        small, big = (measured("ours", cohort, scratch / "ours", 1)["peak_mb"] for cohort in (scratch / "small", large))
        rows.append(row(f"peak memory, {COPIES} times the cohort compared with one", big, small, unit="MB"))
        both = [measured("again", scratch / "small", scratch / "again", 1) for _ in range(given.rounds)]
        for clock in ("cpu", "wall"):
            first, second = (statistics.median(one[f"{name} {clock}"] for one in both) for name in ("first", "second"))
            rows.append(row(f"second ingest compared with the first, {clock}", second, first, bar=SECOND_INGEST))
    write_figures(given.out, [figure_of(row) for row in rows], patients=given.patients, rounds=given.rounds, rows=rows)


if __name__ == "__main__":
    main()
