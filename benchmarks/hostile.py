"""The codes of 500 hostile requests to the model server: `python -m benchmarks.hostile`.

Half go to the gRPC port, half to the REST port, several at once, made from a seed; those that send slowly on purpose
run in parallel. After each one, a valid request to either API must succeed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import OUT, Figure, table, write_figures

if TYPE_CHECKING:
    from tests.serving.hostile.volley import Volley

REQUESTS = 500
AT_ONCE = 4
MOST_MEMORY_MB = 3072
MOST_SECONDS = 30.0


def volley_figures(server: str, volley: Volley, requests: int, most_mb: float, most_seconds: float) -> list[Figure]:
    """Return wrong codes, failed valid requests, slowest response and peak memory."""
    seconds, slowest = volley.slowest
    return [
        Figure(f"hostile requests to the {server}", volley.sent, at_least=requests),
        Figure("  with a wrong code", len(volley.wrong), at_most=0, note="; ".join(volley.wrong[:5])),
        Figure("  failed valid requests after them", len(volley.unwell), at_most=0, note="; ".join(volley.unwell[:3])),
        Figure("  slowest response", seconds, at_most=most_seconds, unit="s", note=slowest),
        Figure("  peak memory", volley.peak_mb, at_most=most_mb, unit="MB", note=f"{volley.rest_mb:.0f} MB beforehand"),
    ]  # fmt: skip


def main() -> None:
    """Print the table and write the JSON."""
    from tests.serving.hostile.requests import hostile_requests
    from tests.serving.hostile.target import hostile_models, target
    from tests.serving.hostile.volley import fire

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT / "hostile.json")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="number of requests (%(default)s)")
    parser.add_argument("--seed", type=int, default=2023, help="seed of the random numbers (%(default)s)")
    arguments = parser.parse_args()
    requests = hostile_requests(arguments.requests, arguments.seed)
    with (
        tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder,
        target(hostile_models(Path(folder))) as server,
    ):
        volley = fire(requests, server, server.process.pid, AT_ONCE, server.complaint)
        ended = server.process.poll()
    figures = volley_figures("model server", volley, arguments.requests, MOST_MEMORY_MB, MOST_SECONDS)
    figures.append(Figure("  crashes", int(ended is not None), at_most=0))
    print(table(figures))
    write_figures(arguments.out, figures, wrong=volley.wrong, unwell=volley.unwell)


if __name__ == "__main__":
    main()
