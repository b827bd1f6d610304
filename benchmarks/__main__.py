"""Run the benchmarks one after another and print every figure with its bar: `make bench`, `make bench ONLY=training`.

Each benchmark is a process of its own, which prints what it does and leaves a JSON file; `results.json` next to them
holds the figures of this run. The exit status is 1 if a bar is missed or a figure could not be measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import OUT, Figure, machine, read_figures, table, write_figures
from metseg.process_environment import apply_defaults

BENCHMARKS = {
    "damaged": "500 damaged files: read right or refused",
    "data": "ingest and preprocess compared with a plain loop",
    "validation": "validation of 100,000 slices' statistics",
    "judgement": "scoring of a volume; 1,000 simulated pairs of models through the gate",
    "cost": "parameters and multiply-accumulates of the networks",
    "overfit": "one batch learnt by heart, each network with each loss",
    "report": "the report of a run with 100 test patients",
    "serving": "the model server compared with the SavedModel in process; eight clients; memory",
    "callers": "what the client adds to a bare Predict",
    "warm_up": "the first request of a version",
    "promotion": "a moved alias under load; 200 reconcilers killed while they publish",
    "hostile": "500 hostile requests to the model server",
    "gateway": "500 hostile requests to the gateway",
    "training": "training compared with PyTorch and medicai, input pipeline, memory, start",
}
"""Modules of this package, in the order they run."""


def chosen(words: Sequence[str]) -> list[str]:
    """Names among words that commas or spaces separate; all without any.

    Raises:
        ValueError: there is no benchmark of such a name.
    """
    names = [name for word in words for name in word.replace(",", " ").split()]
    for name in names:
        if name not in BENCHMARKS:
            raise ValueError(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    return [name for name in BENCHMARKS if name in names or not names]


def run(name: str, out: Path) -> list[Figure]:
    """Figures of one benchmark; a figure without a value if it fails."""
    result = out / f"{name}.json"
    result.unlink(missing_ok=True)
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--out", str(result)])
    if done.returncode or not result.exists():
        return [Figure(name, None, note=f"it ended with {done.returncode}: see above")]
    return read_figures(result)


def main() -> int:
    """Run what was chosen."""
    listed = "\n".join(f"  {name:<12}{what}" for name, what in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("only", nargs="*", metavar="NAME", help="which to run; all unless given")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the JSON files (%(default)s)")
    given = parser.parse_args()
    try:
        names = chosen(given.only)
    except ValueError as error:
        parser.error(str(error))
    apply_defaults()
    here = machine()
    print(f"{here['processor']}, {here['cores']} cores, load {here['load']}", flush=True)
    figures: list[Figure] = []
    for place, name in enumerate(names, 1):
        print(f"\n[{place}/{len(names)}] {name}: {BENCHMARKS[name]} …", flush=True)
        started = time.monotonic()
        figures += run(name, given.out)
        print(f"[{place}/{len(names)}] {name}: {time.monotonic() - started:.0f} s", flush=True)
    print("\n" + table(figures))
    write_figures(given.out / "results.json", figures, benchmarks=names)
    missed = [figure for figure in figures if figure.verdict in ("miss", "not measured")]
    print(f"\n{len(figures)} figures, {len(missed)} missed or not measured; all in {given.out / 'results.json'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
