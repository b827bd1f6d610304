"""Training: speed, input pipeline, memory and start.

Speed is compared with peers; memory is that at ten times the cohort.

`--part` chooses among them; `speed` is `benchmarks.speed`, which has options of its own. The records are those of the
phantom cohort, the settings those of a run, unless options change them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.processes import answered, peak_memory_mb
from benchmarks.speed import ARCHITECTURES, Size, compiled_network, fitted, speed_figures
from metseg.process_environment import apply_defaults
from metseg.progress import TAG

COPIES = 10
SKIPPED = 3
"""First steps that do not count: the graph is traced, and the queues of prepared batches fill."""
MEMORY_STEPS = 8
EPOCH_BAR, MEMORY_BAR, START_BAR = 1.05, 1.1, 2.0


def phantom_records(folder: Path, patients: int) -> Path:
    """Records of a phantom cohort, as a run prepares them."""
    from components.preprocess.step import preprocess
    from metseg.dataset.ingest import ingest
    from metseg.phantom import generate_cohort

    generate_cohort(folder / "phantom", patients)
    ingest(str(folder / "phantom"), folder / "cohort")
    preprocess(folder / "cohort", folder / "records", image_size=144)
    return folder / "records"


def multiplied(records: Path, target: Path, copies: int) -> Path:
    """The cases of each split over and over under new names, by hard links."""
    for path in sorted(records.glob("*/*.npy")):
        (target / path.parent.name).mkdir(parents=True, exist_ok=True)
        for copy in range(copies):
            os.link(path, target / path.parent.name / f"{copy:03d}-{path.name}")
    return target


def epoch(records: Path, architecture: str, steps: int) -> dict[str, Any]:
    """Measure steps on batches of the input pipeline and on its first batch.

    They take turns in this process.

    The machine changes its pace within seconds, so that a comparison of whole epochs shows little. Each step takes one
    batch from its queue, in whose place another is drawn while the step runs.
    """
    from metseg.training.batches import SliceStore, batch_shapes, draw_batch, stream
    from metseg.training.configuration import TrainingConfiguration

    store = SliceStore(records / "train", 0)
    configuration = TrainingConfiguration(architecture)
    network = compiled_network(architecture)
    constant = draw_batch(store, configuration, 0)
    shapes = batch_shapes(store, configuration.batch_size)
    streams = {
        "pipeline": stream(lambda step: draw_batch(store, configuration, step), shapes),
        "constant": stream(lambda step: constant, shapes),
    }
    fitted(network, streams["constant"], SKIPPED)
    batches = {name: iter(batches) for name, batches in streams.items()}
    seconds: dict[str, Any] = {"pipeline": [], "constant": [], "pipeline_cpu": [], "constant_cpu": []}
    for turn in range(SKIPPED + steps):
        for name in batches if turn % 2 else reversed(batches):
            wall, cpu = time.perf_counter(), time.process_time()
            float(network.train_function(batches[name])["loss"])
            seconds[name].append(time.perf_counter() - wall)
            seconds[f"{name}_cpu"].append(time.process_time() - cpu)
    return {name: taken[SKIPPED:] for name, taken in seconds.items()}


def trained(records: Path, architecture: str, steps: int) -> dict[str, Any]:
    """Peak memory of this process after a short training, validation included."""
    import tensorflow as tf

    from metseg.training.configuration import TrainingConfiguration
    from metseg.training.loop import train_heads

    tf.config.experimental.enable_op_determinism()
    configuration = TrainingConfiguration(architecture, epochs=2, steps_per_epoch=steps)
    with tempfile.TemporaryDirectory() as state:
        train_heads(records, 0, configuration, Path(state), lambda number, figures: None)
    return {"peak_mb": peak_memory_mb()}


def imported(records: Path, architecture: str, steps: int) -> dict[str, Any]:
    """Nothing but the import of TensorFlow, and its peak memory."""
    import tensorflow  # noqa: F401  (its import is what is measured)

    return {"peak_mb": peak_memory_mb()}


WORK = {"epoch": epoch, "trained": trained, "imported": imported}


def measured(work: str, records: Path, architecture: str, steps: int) -> dict[str, Any]:
    """One piece of work in a process of its own."""
    return answered("benchmarks.training", ["--measure", work, str(records), architecture, f"--steps={steps}"])


def epoch_figures(records: Path, rounds: int, steps: int) -> list[Figure]:
    """Time that reading, sampling and augmenting add to an epoch of each network."""
    figures = []
    for architecture in ARCHITECTURES:
        ratios: dict[str, list[float]] = {"": [], "_cpu": []}
        for turn in range(rounds):
            seconds = measured("epoch", records, architecture, steps)
            for clock, into in ratios.items():
                into.append(sum(seconds[f"pipeline{clock}"]) / sum(seconds[f"constant{clock}"]))
            print(f"  round {turn + 1}/{rounds}: {architecture}, epoch: × {ratios[''][-1]:.3f}", flush=True)
        name = f"epoch through the input pipeline over a constant batch, {architecture}"
        figures.append(Figure(name, statistics.median(ratios[""]), at_most=EPOCH_BAR))
        figures.append(Figure("  the same in CPU seconds", statistics.median(ratios["_cpu"])))
    return figures


def memory_figures(records: Path, scratch: Path, rounds: int) -> list[Figure]:
    """Peak memory of training on ten times the cases over that on the cases."""
    figures = []
    cohorts = [multiplied(records, scratch / f"times-{copies}", copies) for copies in (1, COPIES)]
    for architecture in ARCHITECTURES:
        peaks: list[list[float]] = [[], []]
        for turn in range(rounds):
            for cohort, into in zip(cohorts, peaks, strict=True):
                into.append(measured("trained", cohort, architecture, MEMORY_STEPS)["peak_mb"])
            seen = " and ".join(f"{into[-1]:.0f} MB" for into in peaks)
            print(f"  round {turn + 1}/{rounds}: {architecture}, memory: {seen}", flush=True)
        small, large = (statistics.median(into) for into in peaks)
        name = f"peak memory of training, {COPIES} times the cohort over one, {architecture}"
        figures.append(Figure(name, large / small, at_most=MEMORY_BAR, note=f"{small:.0f} → {large:.0f} MB"))
    return figures


def seconds_to_first_step(records: Path, architecture: str) -> float:
    """Seconds from the start of a training process to its first step."""
    command = [sys.executable, "-m", "benchmarks.training", "--measure", "trained", str(records), architecture]
    started = time.perf_counter()
    with subprocess.Popen(
        [*command, "--steps=1000"],
        env={**os.environ, "METSEG_PROGRESS": "lines"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(TAG) and json.loads(line[len(TAG) :])["label"].startswith("training"):
                seconds = time.perf_counter() - started
                process.kill()
                return seconds
    raise RuntimeError(f"{' '.join(command[1:])} ended with {process.returncode} before its first step")


def start_figures(records: Path, rounds: int) -> list[Figure]:
    """Seconds to the first step over the seconds of importing TensorFlow."""
    imports: list[float] = []
    starts: dict[str, list[float]] = {name: [] for name in ARCHITECTURES}
    for turn in range(rounds):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, capture_output=True)
        imports.append(time.perf_counter() - started)
        for architecture, into in starts.items():
            into.append(seconds_to_first_step(records, architecture))
        seen = ", ".join(f"{name} {into[-1]:.1f} s" for name, into in starts.items())
        print(f"  round {turn + 1}/{rounds}: import {imports[-1]:.1f} s, {seen}", flush=True)
    figures = []
    for architecture, into in starts.items():
        ratio = statistics.median(start / bare for start, bare in zip(into, imports, strict=True))
        name = f"process start to the first step over the import of TensorFlow, {architecture}"
        note = f"{statistics.median(imports):.1f} → {statistics.median(into):.1f} s"
        figures.append(Figure(name, ratio, at_most=START_BAR, note=note))
    return figures


def all_figures(given: argparse.Namespace) -> tuple[list[Figure], dict[str, Any]]:
    """Figures of the requested parts."""
    figures: list[Figure] = []
    more: dict[str, Any] = {}
    parts = given.part or PARTS
    if "speed" in parts:
        figures, more = speed_figures(Size(), given.rounds)
    if set(parts) == {"speed"}:
        return figures, more
    with tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder:
        scratch = Path(folder)
        records = given.records or phantom_records(scratch, given.patients)
        if given.records:
            records = Path(shutil.copytree(given.records, scratch / "records"))
        if "epoch" in parts:
            figures += epoch_figures(records, given.rounds, given.steps)
        if "memory" in parts:
            figures += memory_figures(records, scratch, given.rounds)
        if "start" in parts:
            figures += start_figures(records, given.rounds)
    return figures, more


PARTS = ("speed", "epoch", "memory", "start")


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="may be given again; all unless given")
    parser.add_argument("--patients", type=int, default=8, help="of the phantom cohort")
    parser.add_argument("--records", type=Path, help="folder with train/ and validation/ instead of the phantom's")
    parser.add_argument("--steps", type=int, default=100, help="timed steps of an epoch (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT / "training.json")
    parser.add_argument("--measure", nargs=3, metavar=("WORK", "RECORDS", "ARCHITECTURE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    apply_defaults()
    if given.measure:
        logging.disable()
        work, records, architecture = given.measure
        print(json.dumps(WORK[work](Path(records), architecture, given.steps)))
        return
    figures, more = all_figures(given)
    print(table(figures))
    write_figures(given.out, figures, rounds=given.rounds, processes=more)


if __name__ == "__main__":
    main()
