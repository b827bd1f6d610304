"""Delay between a moved alias and `stable`, and leftovers of killed reconcilers: `python -m benchmarks.promotion`.

MLflow's server, `metseg serve` and `metseg reconcile` are separate processes. Callers query `stable` without a pause
while the alias `champion` is moved forward and back: once with small models, whose outputs are known beforehand, once
with networks of the size that `make run` trains, which take long to load and to warm up. Then reconcilers are killed by
SIGKILL at random moments of their turn, while versions are published, some of which must not be served; the server is
killed now and then, too.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.served_model import CHANNELS, export_network

if TYPE_CHECKING:
    from tests.serving.reconciliation.laboratory import Answer, Laboratory

MOVES = 12
VERSIONS = 4
CALLERS, FULL_SIZE_CALLERS = 4, 1
"""Threads that query without a pause; one is enough to keep two cores busy with a network."""
MOST_DIFFERENCE, FULL_SIZE_DIFFERENCE = 1e-6, 1e-5
"""Largest difference of a response from its version's output; the order of a network's sums may differ."""
LEAST_REQUESTS = 1000
MOST_SECONDS = 10.0
KILLS = 200
RESTART_EVERY = 20
"""Trials between two kills of the server."""
PADDING = 2**22
"""Weights that each model carries along, so that fetching and copying it takes a while: 16 MB."""
SEED = 2023


def move_figures(
    laboratory: Laboratory, name: str, moves: int, callers_at_once: int, most_difference: float
) -> list[Figure]:
    """Measure seconds from a moved alias to a response of `stable`.

    Count failed and mixed responses too.
    """
    from tests.serving.reconciliation.laboratory import reconciling, request, serving
    from tests.serving.reconciliation.load import Callers

    factors = itertools.islice(itertools.cycle(sorted(laboratory.saved_models)), VERSIONS)
    numbers = [laboratory.register(name, factor) for factor in factors]
    laboratory.point(name, "champion", numbers[0])
    image = request(3, side=32, channels=laboratory.channels)
    expected = {number: laboratory.answer(image, laboratory.factors[name, number]) for number in numbers}
    for before, after in itertools.pairwise(expected.values()):
        if np.abs(before - after).max() < 100 * most_difference:
            raise RuntimeError(
                f"versions of {name} that follow one another have equal outputs: a mixed response would not show"
            )
    there_and_back = itertools.cycle([*numbers[1:], *numbers[-2::-1]])
    seconds = []
    with serving(laboratory.volume) as server, reconciling(laboratory, server, name) as log:
        log.until(f"stable → {numbers[0]}")
        with Callers(server.address, name, image, expected, callers_at_once, most_difference) as callers:
            for number in itertools.islice(there_and_back, moves):
                seconds.append(
                    callers.seconds_until(number, lambda number=number: laboratory.point(name, "champion", number))
                )
                log.until(f"stable → {number}")
                print(f"  {name}: version {number} after {seconds[-1]:.1f} s", flush=True)
            while callers.heard.answers < LEAST_REQUESTS:
                time.sleep(0.05)
    heard = callers.heard
    median = f"median {statistics.median(seconds):.1f} s of {moves} moves, forward and back"
    return [
        Figure(f"alias moved → `stable` is the version, {name}, slowest", max(seconds), at_most=MOST_SECONDS,
               unit="s", note=median),
        Figure("  requests under way", heard.answers + len(heard.failed), at_least=LEAST_REQUESTS),
        Figure("  failed", len(heard.failed), at_most=0, note="; ".join(heard.failed[:3])),
        Figure("  mixed responses", len(heard.mixed), at_most=0, note="; ".join(heard.mixed[:3])),
    ]  # fmt: skip


def full_size(folder: Path) -> tuple[dict[float, Path], Answer]:
    """Return two networks of the default size, and their outputs in process."""
    import tensorflow as tf

    from tests.serving.reconciliation.laboratory import THRESHOLD

    networks = {float(seed): export_network(folder / str(seed), seed, float(THRESHOLD)) for seed in (1, 2)}
    loaded = {seed: tf.saved_model.load(str(network)) for seed, network in networks.items()}

    def answer(image: NDArray[np.float32], seed: float) -> NDArray[np.float32]:
        outputs = loaded[seed].signatures["serving_default"](image=tf.constant(image[np.newaxis]))
        probability: NDArray[np.float32] = outputs["probability"].numpy()[0]
        return probability

    return networks, answer


def kill_figures(laboratory: Laboratory, kills: int) -> tuple[list[Figure], Counter[str]]:
    """Count errors after kills, and the kills of each stage."""
    from tests.serving.reconciliation.laboratory import serving
    from tests.serving.reconciliation.trials import ANSWERS, CONVERGENCE, FOLDER, KillingTrials

    began = time.monotonic()
    with serving(laboratory.volume) as server:
        findings = KillingTrials(laboratory, server, "killed", SEED).run(kills, RESTART_EVERY)
    counts = findings.counts
    print(f"{counts['kills']} kills in {time.monotonic() - began:.0f} s", flush=True)
    stages = ", ".join(
        f"{count} {stage.removeprefix('killed ')}"
        for stage, count in sorted(counts.items())
        if stage.startswith("killed ")
    )
    rows = (
        (FOLDER, "  broken or unverified versions where a server looks", stages),
        (CONVERGENCE, "  next starts that did not converge", f"{counts['trials']} starts"),
        (ANSWERS, "  responses of `stable` that failed, were unfit or mixed", f"of {counts['answers']:,} responses"),
    )
    return [
        Figure("reconcilers killed by SIGKILL", counts["kills"], at_least=kills,
               note=f"on the way to {counts['trials']} versions, {counts['unfit']} of them unfit, "
               f"{counts['unfit golden']} by their outputs; {counts['server restarts']} servers killed too"),
        *(
            Figure(title, len(findings.wrong[topic]), at_most=0, note="; ".join([*findings.wrong[topic][:3], note]))
            for topic, title, note in rows
        ),
    ], counts  # fmt: skip


PARTS = ("moves", "full-size", "kills")


def measured(parts: Sequence[str], moves: int, kills: int, folder: Path) -> tuple[list[Figure], Counter[str]]:
    """Return the figures of some parts, and the counts of the kills."""
    from tests.serving.reconciliation.laboratory import Laboratory, export_all, settings_in
    from tests.serving.reconciliation.mlflow_server import MlflowServer

    saved_models = export_all(folder / "factors", PADDING)
    figures: list[Figure] = []
    counts: Counter[str] = Counter()
    mlflow = MlflowServer(folder)
    mlflow.start()
    try:
        laboratory = Laboratory(settings_in(folder, mlflow.url), saved_models)
        if "moves" in parts:
            figures += move_figures(laboratory.within(folder / "moves"), "small", moves, CALLERS, MOST_DIFFERENCE)
        if "full-size" in parts:
            networks, respond = full_size(folder)
            full = replace(
                laboratory.within(folder / "full-size"),
                saved_models=networks,
                answer=respond,
                channels=len(CHANNELS),
                runs={},  # those of the small models have the same factors
            )
            figures += move_figures(full, "full-size", moves, FULL_SIZE_CALLERS, FULL_SIZE_DIFFERENCE)
        if "kills" in parts:
            measured, counts = kill_figures(laboratory.within(folder / "kills"), kills)
            figures += measured
    finally:
        mlflow.stop()
    return figures, counts


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT / "promotion.json")
    parser.add_argument("--part", nargs="*", choices=PARTS, default=list(PARTS), help="all unless given")
    parser.add_argument("--moves", type=int, default=MOVES, help="of the alias (%(default)s)")
    parser.add_argument("--kills", type=int, default=KILLS, help="of reconcilers (%(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder:
        figures, counts = measured(given.part, given.moves, given.kills, Path(folder))
    print(table(figures))
    write_figures(given.out, figures, counts=dict(counts))


if __name__ == "__main__":
    main()
