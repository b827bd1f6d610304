"""Check that 500 damaged image files are each read right or refused by name: `python -m benchmarks.damaged`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.processes import answered

MOST_MEMORY_MB = 1024
MOST_SECONDS = 3.0


def damaged_figures() -> list[Figure]:
    """Return the figures of reading the damaged files.

    They are the files neither read right nor refused, the slowest file, and the peak memory.
    """
    with tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder:
        results = answered("tests.imaging.damaged", [folder])
    verdicts, seconds = results["verdicts"], results["seconds"]
    wrong = [name for name, verdict in verdicts.items() if verdict not in ("read", "refused")]
    slowest = max(seconds, key=seconds.get)
    return [
        Figure("damaged files", len(verdicts), at_least=500),
        Figure("  neither read right nor refused by name", len(wrong), at_most=0, note=", ".join(wrong[:5])),
        Figure("  slowest", seconds[slowest], at_most=MOST_SECONDS, unit="s", note=slowest),
        Figure("  peak memory", results["peak"] / 2**20, at_most=MOST_MEMORY_MB, unit="MB"),
    ]


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT / "damaged.json")
    given = parser.parse_args()
    figures = damaged_figures()
    print(table(figures))
    write_figures(given.out, figures)


if __name__ == "__main__":
    main()
