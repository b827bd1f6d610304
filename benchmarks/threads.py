"""Cost of TensorFlow's thread settings and deterministic kernels in training: `python -m benchmarks.threads`.

Every setting is a process of its own on one constant batch; they take turns, and medians over the rounds count. No bar
hangs on it, so `make bench` leaves it out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.processes import answered
from benchmarks.speed import ARCHITECTURES, WARM_UP, Size, compiled_network, fitted
from metseg.process_environment import apply_defaults

SETTINGS = [
    (*threads, kernels) for threads in ((2, 2), (1, 2), (2, 1), (1, 1)) for kernels in ("free", "deterministic")
]
"""Threads inside an operation, threads among operations, kernels."""


def measure(architecture: str, kernels: str, size: Size) -> None:
    """Train in this process and print milliseconds a step as JSON."""
    network = compiled_network(architecture, kernels == "deterministic", filters=size.filters, batch_size=size.batch)
    taken = fitted(network, itertools.repeat(size.constant_batch()), WARM_UP + size.steps)[WARM_UP:]
    wall, cpu = (1000.0 * statistics.median(step[clock] for step in taken) for clock in (0, 1))
    print(json.dumps({"wall": wall, "cpu": cpu}))


def thread_figures(architecture: str, size: Size, rounds: int) -> list[Figure]:
    """Milliseconds a step under each setting."""
    taken: dict[tuple[int, int, str], list[dict[str, float]]] = {setting: [] for setting in SETTINGS}
    for turn in range(rounds):
        for inside, among, kernels in SETTINGS:
            threads = {"TF_NUM_INTRAOP_THREADS": str(inside), "TF_NUM_INTEROP_THREADS": str(among)}
            sizes = [f"--{name}={value}" for name, value in vars(size).items()]
            result = answered("benchmarks.threads", ["--measure", architecture, kernels, *sizes], threads)
            taken[inside, among, kernels].append(result)
            what = f"{architecture}, {inside} inside, {among} among, {kernels}"
            print(f"  round {turn + 1}/{rounds}: {what}: {result['wall']:.0f} ms", flush=True)
    figures = []
    for (inside, among, kernels), results in taken.items():
        name = f"step of {architecture}, {inside} threads inside operations, {among} among them, {kernels} kernels"
        wall, cpu = (statistics.median(one[clock] for one in results) for clock in ("wall", "cpu"))
        figures.append(Figure(name, wall, unit="ms", note=f"{cpu:.0f} ms of CPU"))
    return figures


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in vars(Size(batch=4, side=144, filters=8, steps=12)).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT / "threads.json")
    parser.add_argument("--measure", nargs=2, metavar=("ARCHITECTURE", "KERNELS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    apply_defaults()
    size = Size(given.batch, given.side, given.filters, given.steps)
    if given.measure:
        measure(given.measure[0], given.measure[1], size)
        return
    figures = [figure for name in ARCHITECTURES for figure in thread_figures(name, size, given.rounds)]
    print(table(figures))
    write_figures(given.out, figures, rounds=given.rounds, size=vars(size))


if __name__ == "__main__":
    main()
