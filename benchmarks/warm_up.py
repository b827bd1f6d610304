"""Latency of a version's first request, with its warm-up requests and without: `python -m benchmarks.warm_up`.

A server starts with an untrained network of the size that `make run` trains, in turns with the exported warm-up
requests and with `--enable_model_warmup=false`. Each time one slice is predicted, and then a few more.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.served_model import MODEL, export_model, serving

SLICE = (1, 256, 256, 3)
LATER = 9
MOST_WARM = 2.0
"""Times a later request; the slice size of the first one is new to TensorFlow's kernels in any case."""


def measure_first(base_path: Path, *, warm: bool) -> tuple[float, float, float]:
    """Return seconds until available, of the first request, and of later ones."""
    from metseg.serving.client import SegmentationClient

    image = np.random.default_rng(5).gamma(2.0, 100.0, SLICE).astype(np.float32)
    began = time.perf_counter()
    with (
        serving(base_path, f"--enable_model_warmup={str(warm).lower()}") as served,
        SegmentationClient(served.address, MODEL, timeout=300) as client,
    ):
        available = time.perf_counter() - began
        seconds = []
        for _ in range(1 + LATER):
            began = time.perf_counter()
            client.predict(image)
            seconds.append(time.perf_counter() - began)
    return available, seconds[0], statistics.median(seconds[1:])


def first_request_figures(base_path: Path, rounds: int) -> list[Figure]:
    """Return the first request over later ones, with warm-up requests and without."""
    timings: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
    for turn in range(rounds):
        for warm in (True, False) if turn % 2 else (False, True):
            timings[warm].append(measure_first(base_path, warm=warm))
    figures = []
    for warm, name in ((True, "with warm-up requests"), (False, "without")):
        available, first, later = (statistics.median(column) for column in zip(*timings[warm], strict=True))
        note = f"{first * 1000:.0f} ms, later {later * 1000:.0f} ms; available {available:.1f} s after the start"
        over = statistics.median(one / other for _, one, other in timings[warm])
        figures.append(
            Figure(f"first request of a version over later ones, {name}", over, at_most=MOST_WARM if warm else None,
                   note=note)
        )  # fmt: skip
    return figures


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT / "warm_up.json")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder:
        base_path = Path(folder) / MODEL
        export_model(base_path)
        figures = first_request_figures(base_path, arguments.rounds)
    print(table(figures))
    write_figures(arguments.out, figures)


if __name__ == "__main__":
    main()
