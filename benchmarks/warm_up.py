"""What the first caller of a version waits, with its warm-up requests and without: `python -m benchmarks.warm_up`.

A server is started anew with an untrained network of the size that `make run` trains, once running the requests that
were exported with it and once with `--enable_model_warmup=false`, in turns. Each time one slice is asked for, and then
a few more.
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
"""Times a later request; TensorFlow's kernels meet a new size of slice in the first one all the same."""


def waited(base_path: Path, *, warm: bool) -> tuple[float, float, float]:
    """Seconds until the version was available, of the first request, and the median of later ones."""
    from metseg.serving.client.segmentation_client import SegmentationClient

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
    """The first request over later ones, with the requests and without."""
    found: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
    for turn in range(rounds):
        for warm in (True, False) if turn % 2 else (False, True):
            found[warm].append(waited(base_path, warm=warm))
    figures = []
    for warm, name in ((True, "with warm-up requests"), (False, "without")):
        available, first, later = (statistics.median(column) for column in zip(*found[warm], strict=True))
        note = f"{first * 1000:.0f} ms, later {later * 1000:.0f} ms; available {available:.1f} s after the start"
        over = statistics.median(one / other for _, one, other in found[warm])
        figures.append(
            Figure(f"first request of a version over later ones, {name}", over, at_most=MOST_WARM if warm else None,
                   note=note)
        )  # fmt: skip
    return figures


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT / "warm_up.json")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder:
        base_path = Path(folder) / MODEL
        export_model(base_path)
        figures = first_request_figures(base_path, given.rounds)
    print(table(figures))
    write_figures(given.out, figures)


if __name__ == "__main__":
    main()
