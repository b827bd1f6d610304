"""How soon `stable` follows a moved alias, and what killed reconcilers leave: `python -m benchmarks.promotion`.

MLflow's server, `metseg serve` and `metseg reconcile` are processes of their own; the models are small, and their
answers are known beforehand. Callers ask `stable` without a pause while the alias `champion` is moved forward and
back. Then reconcilers are killed by SIGKILL at random moments of their turn, while versions are published, some of
which must not be served; the server is killed now and then, too.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import OUT, Figure, table, write_figures

if TYPE_CHECKING:
    from tests.serving.reconciliation.laboratory import Laboratory

MOVES = 12
LEAST_REQUESTS = 1000
MOST_SECONDS = 10.0
KILLS = 200
RESTART_EVERY = 20
"""Trials between two kills of the server."""
PADDING = 2**22
"""Weights that each model carries along, so that fetching and copying it takes a while: 16 MB."""
SEED = 2023


def move_figures(laboratory: Laboratory, moves: int) -> list[Figure]:
    """Seconds from the registry's answer to a moved alias until `stable` answers, and how the requests fared."""
    from tests.serving.reconciliation.laboratory import answer, reconciling, request, serving
    from tests.serving.reconciliation.load import Callers

    name = "moved"
    numbers = [laboratory.register(name, factor) for factor in sorted(laboratory.saved_models)]
    laboratory.point(name, "champion", numbers[0])
    image = request(3, side=32)
    expected = {number: answer(image, laboratory.factors[name, number]) for number in numbers}
    there_and_back = itertools.cycle([*numbers[1:], *numbers[-2::-1]])
    seconds = []
    with serving(laboratory.volume) as server, reconciling(laboratory, server, name) as said:
        said.until(f"stable → {numbers[0]}")
        with Callers(server.address, name, image, expected) as callers:
            for number in itertools.islice(there_and_back, moves):
                seconds.append(
                    callers.seconds_until(number, lambda number=number: laboratory.point(name, "champion", number))
                )
                said.until(f"stable → {number}")
            while callers.heard.answers < LEAST_REQUESTS:
                time.sleep(0.05)
    heard = callers.heard
    median = f"median {statistics.median(seconds):.1f} s of {moves} moves, forward and back"
    return [
        Figure("alias moved → `stable` answers with the version, slowest", max(seconds), at_most=MOST_SECONDS,
               unit="s", note=median),
        Figure("  requests under way", heard.answers + len(heard.failed), at_least=LEAST_REQUESTS),
        Figure("  failed", len(heard.failed), at_most=0, note="; ".join(heard.failed[:3])),
        Figure("  mixed answers", len(heard.mixed), at_most=0, note="; ".join(heard.mixed[:3])),
    ]  # fmt: skip


def kill_figures(laboratory: Laboratory, kills: int) -> tuple[list[Figure], Counter[str]]:
    """What was wrong after kills, and how often what was seen."""
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
        (FOLDER, "  broken or unexamined versions where a server looks", stages),
        (CONVERGENCE, "  next starts that did not converge", f"{counts['trials']} starts"),
        (ANSWERS, "  answers of `stable` that failed, were unfit or mixed", f"of {counts['answers']:,} answers"),
    )
    return [
        Figure("reconcilers killed by SIGKILL", counts["kills"], at_least=kills,
               note=f"on the way to {counts['trials']} versions, {counts['unfit']} of them unfit, "
               f"{counts['unfit golden']} by their answers; {counts['server restarts']} servers killed too"),
        *(
            Figure(title, len(findings.wrong[topic]), at_most=0, note="; ".join([*findings.wrong[topic][:3], note]))
            for topic, title, note in rows
        ),
    ], counts  # fmt: skip


PARTS = ("moves", "kills")


def measured(parts: Sequence[str], moves: int, kills: int, folder: Path) -> tuple[list[Figure], Counter[str]]:
    """Figures of some parts, and the counts of the second."""
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
            figures += move_figures(laboratory.within(folder / "moves"), moves)
        if "kills" in parts:
            found, counts = kill_figures(laboratory.within(folder / "kills"), kills)
            figures += found
    finally:
        mlflow.stop()
    return figures, counts


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT / "promotion.json")
    parser.add_argument("--part", nargs="*", choices=PARTS, default=list(PARTS), help="both unless given")
    parser.add_argument("--moves", type=int, default=MOVES, help="of the alias (%(default)s)")
    parser.add_argument("--kills", type=int, default=KILLS, help="of reconcilers (%(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder:
        figures, counts = measured(given.part, given.moves, given.kills, Path(folder))
    print(table(figures))
    write_figures(given.out, figures, counts=dict(counts))


if __name__ == "__main__":
    main()
