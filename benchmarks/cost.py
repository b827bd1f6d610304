"""Cost of the networks and the pruned sub-networks for one image: `python -m benchmarks.cost`."""

from __future__ import annotations

import argparse
from pathlib import Path

import models
from benchmarks.figures import OUT, Figure, write_figures

GOLDEN = {"nested_unet, L4": 9_041_601, "nested_unet, four heads": 9_041_700, "unet": 7_759_521}
"""Parameters of the papers' networks at one channel and 32 filters."""


def main() -> None:
    """Print a Markdown table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=240)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--out", type=Path, default=OUT / "cost.json")
    arguments = parser.parse_args()
    papers = (arguments.channels, arguments.filters) == (1, 32)
    figures = []
    size = {"channels": arguments.channels, "filters": arguments.filters}
    nested = models.build("nested_unet", **size)
    networks = {f"nested_unet, L{level}": models.prune(nested, level) for level in range(1, 5)}
    networks["nested_unet, four heads"] = nested
    networks.update({name: models.build(name, **size) for name in ("attention_unet", "unet")})
    print("| network | parameters | multiply-accumulates (10⁹) |\n|---|---:|---:|")
    for name, network in networks.items():
        cost = models.cost(network, arguments.height, arguments.width)
        print(f"| {name} | {cost.parameters:,} | {cost.multiply_accumulates / 1e9:.2f} |")
        golden = GOLDEN.get(name) if papers else None
        figures.append(Figure(f"parameters of {name}", cost.parameters, at_least=golden, at_most=golden))
    write_figures(arguments.out, figures)


if __name__ == "__main__":
    main()
