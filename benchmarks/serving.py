"""The cost of `metseg serve` over the same SavedModel in process: `python -m benchmarks.serving`.

Callers of the server, and of the model in their own process, take turns. A call is timed from the NumPy array of the
image to the NumPy arrays of probability and mask. The network is untrained, of the size that `make run` trains.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.load_generator import KINDS, LoadGenerator, Timing, image_of
from benchmarks.processes import Memory
from benchmarks.served_model import MODEL, Served, export_model, serving

SLICE = (1, 1, 256, 256, 3)
FEW = 16
SLICES = 155
CLIENTS = 8
CALLS = 10
SLICE_ROUNDS, VOLUME_ROUNDS = 12, 9
"""Per round of clients: short ones, because the speed of the machine changes within seconds."""
SECONDS = 6.0
MOST_SLICE = 1.10
MOST_VOLUME = 1.05
MOST_GROWTH = 1.10
AGAIN = 5
MOST_REPEATED = 1.5
"""Freed memory is kept in pieces, some too small for the next volume; it must not grow without limit."""
LEAST_THROUGHPUT = 1.0
OUTPUT_BYTES = 5
"""Of a voxel: a float32 and a byte."""

Sides = dict[str, LoadGenerator]
"""By kind of `benchmarks.load_generator`."""


def volume(slices: int) -> tuple[int, ...]:
    """Return the shape of a BraTS head, in one batch row."""
    return (1, slices, 240, 240, 3)


def in_turns(sides: Sides, rounds: int, call: Callable[[LoadGenerator], Timing]) -> dict[str, list[float]]:
    """Return the median seconds of a call of each side, per round."""
    medians: dict[str, list[float]] = {kind: [] for kind in sides}
    for turn in range(rounds):
        for kind in sides if turn % 2 else reversed(sides):
            medians[kind].append(statistics.median(call(sides[kind]).seconds))
    return medians


def compared(name: str, medians: dict[str, list[float]], bar: float, calls: int) -> list[Figure]:
    """Return the median ratios of the server over in process."""
    figures = []
    for kind, baseline, label in (
        ("grpc", "in-process", name),
        ("stub", "in-process", "  the same with the official stub's messages"),
        ("grpc", "in-process-kept", "  the same over a process that keeps freed memory too"),
    ):
        ratios = sorted(mine / alone for mine, alone in zip(medians[kind], medians[baseline], strict=True))
        over, alone = (statistics.median(medians[side]) * 1000 for side in (kind, baseline))
        spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        note = f"{over:.1f} ms against {alone:.1f} ms, {len(ratios)} rounds of {calls}, {spread}"
        figures.append(Figure(label, statistics.median(ratios), at_most=None if figures else bar, note=note))
    return figures


def slice_figures(sides: Sides, rounds: int) -> list[Figure]:
    """Return the figures of Predict of one slice."""
    medians = in_turns(sides, SLICE_ROUNDS * rounds, lambda side: side.call(SLICE, calls=CALLS))
    return compared("gRPC Predict of one 256×256 slice, p50, over in process", medians, MOST_SLICE, CALLS)


def volume_figures(sides: Sides, rounds: int) -> list[Figure]:
    """Return the figures of Predict of a volume in one request."""
    medians = in_turns(sides, VOLUME_ROUNDS * rounds, lambda side: side.call(volume(SLICES), calls=1))
    return compared(f"{SLICES} slices of 240×240 in one request, over in process", medians, MOST_VOLUME, 1)


def client_figures(served: Served, rounds: int) -> list[Figure]:
    """Return the throughput of parallel client processes over that of one."""
    ratios, single, together = [], [], []
    with ExitStack() as stack:
        clients = [stack.enter_context(LoadGenerator("grpc", served.address)) for _ in range(CLIENTS)]
        for client in clients:
            client.call(SLICE, calls=2)
        for turn in range(rounds):
            rates = {}
            for count in (1, CLIENTS) if turn % 2 else (CLIENTS, 1):
                for client in clients[:count]:
                    client.begin(SLICE, seconds=SECONDS)
                timings = [client.end() for client in clients[:count]]
                rates[count] = sum(len(one.seconds) / one.elapsed for one in timings)
                (single if count == 1 else together).extend(second for one in timings for second in one.seconds)
            ratios.append(rates[CLIENTS] / rates[1])
    p50, p99 = (np.percentile(together, share) * 1000 for share in (50, 99))
    alone = np.percentile(single, 99) * 1000
    note = f"{len(together)} calls against {len(single)}, median of {rounds} rounds of {SECONDS:g} s"
    return [
        Figure(f"{CLIENTS} clients over one, throughput", statistics.median(ratios), LEAST_THROUGHPUT, note=note),
        Figure(f"  p99 of {CLIENTS} clients", p99, unit="ms", note=f"p50 {p50:.0f} ms; p99 of one {alone:.0f} ms"),
    ]


def client_memory_figure(served: Served) -> Figure:
    """Return the server's peak memory for a volume over one half as long, in chunks."""
    from metseg.serving.client import SegmentationClient

    memory = Memory(served.process)
    peaks = []
    with SegmentationClient(served.address, MODEL) as client:
        client.predict(image_of(volume(FEW))[0])
        rest = memory.resident_mb()
        for slices in (SLICES, 2 * SLICES):
            image = image_of(volume(slices))[0]
            memory.forget_peak()
            client.segment(image)
            peaks.append(memory.peak_mb())
    note = f"{peaks[0]:.0f} MB and {peaks[1]:.0f} MB; {rest:.0f} MB at rest"
    name = f"server memory, {2 * SLICES} slices by the client over {SLICES}"
    return Figure(name, peaks[1] / peaks[0], at_most=MOST_GROWTH, note=note)


def request_memory(base_path: Path, slices: int) -> tuple[float, float, float]:
    """Return a new server's memory in MB: idle, after one request, after more."""
    with serving(base_path) as served, LoadGenerator("grpc", served.address) as bare:
        memory = Memory(served.process)
        bare.call(volume(FEW), calls=0)
        rest = memory.resident_mb()
        memory.forget_peak()
        bare.call(volume(slices), calls=0)
        first = memory.peak_mb()
        bare.call(volume(slices), calls=AGAIN)
        return rest, first, memory.peak_mb()


def request_memory_figures(base_path: Path, rounds: int) -> list[Figure]:
    """Return the server's memory for one request, and after more of them.

    Each in a new server, because a server reuses the memory of the volume before. The median of the rounds, because
    fragmentation sometimes costs the bytes of one more image.
    """
    sizes = (SLICES, 2 * SLICES)
    medians = [np.median([request_memory(base_path, slices) for _ in range(rounds)], axis=0) for slices in sizes]
    above = [
        (first - rest) / (slices * 240 * 240 * (4 * 3 + OUTPUT_BYTES) / 2**20)
        for slices, (rest, first, _) in zip(sizes, medians, strict=True)
    ]
    rest, first, last = medians[-1]
    name = f"server memory for {sizes[-1]} slices in one request"
    note = f"{above[0]:.2f} and {above[1]:.2f} times request and response above {rest:.0f} MB, {rounds} servers each"
    return [
        Figure(f"{name}, for its bytes, over {SLICES}", above[1] / above[0], at_most=MOST_GROWTH, note=note),
        Figure(f"{name}, after {AGAIN} more over the first", last / first, at_most=MOST_REPEATED,
               note=f"{first:.0f} MB and {last:.0f} MB"),
    ]  # fmt: skip


PARTS = ("slice", "volume", "clients", "memory")


def measured(parts: Sequence[str], rounds: int, folder: Path) -> list[Figure]:
    """Return the figures of some parts."""
    saved_model = export_model(folder)
    figures: list[Figure] = []
    with serving(folder) as served:
        if {"slice", "volume"} & set(parts):
            with ExitStack() as stack:
                targets = dict.fromkeys(KINDS, str(saved_model)) | dict.fromkeys(("grpc", "stub"), served.address)
                sides = {kind: stack.enter_context(LoadGenerator(kind, target)) for kind, target in targets.items()}
                if "slice" in parts:
                    figures += slice_figures(sides, rounds)
                if "volume" in parts:
                    figures += volume_figures(sides, rounds)
        if "clients" in parts:
            figures += client_figures(served, rounds)
        if "memory" in parts:
            figures.append(client_memory_figure(served))
    if "memory" in parts:
        figures += request_memory_figures(folder, rounds)
    return figures


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT / "serving.json")
    parser.add_argument("--part", nargs="*", choices=PARTS, default=list(PARTS), help="parts to measure (default: all)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help=f"of clients and of memory; {VOLUME_ROUNDS} times as many of volumes, {SLICE_ROUNDS} of slices"
        " (%(default)s)",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder:
        figures = measured(arguments.part, arguments.rounds, Path(folder) / MODEL)
    print(table(figures))
    write_figures(arguments.out, figures)


if __name__ == "__main__":
    main()
