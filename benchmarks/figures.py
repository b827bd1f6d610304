"""Figures of a benchmark and their bars, as a table and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OUT = Path("var/benchmarks")
"""Where the JSON of each benchmark goes, and the `results.json` of all."""


@dataclass(frozen=True)
class Figure:
    """One measured value and its bar.

    Attributes:
        name: what was measured, with the size of it.
        value: None if it could not be measured; `note` states why.
        at_least: smallest value that passes; None: no such bar.
        at_most: largest value that passes; None: no such bar.
        unit: of value and bar; empty for ratios and counts.
        note: what a reader of the value must know.
    """

    name: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        """`pass`, `miss`, `not measured`, or `no bar`."""
        if self.value is None:
            return "not measured"
        if self.at_least is None and self.at_most is None:
            return "no bar"
        low = self.at_least is None or self.value >= self.at_least
        high = self.at_most is None or self.value <= self.at_most
        return "pass" if low and high else "miss"

    @property
    def bar(self) -> str:
        """The bar as text, such as `≤ 3`."""
        if self.at_least is not None and self.at_least == self.at_most:
            return f"= {_number(self.at_least)}"
        bounds = [f"≥ {_number(self.at_least)}"] if self.at_least is not None else []
        bounds += [f"≤ {_number(self.at_most)}"] if self.at_most is not None else []
        return " and ".join(bounds) or "–"


def _number(value: float) -> str:
    if float(value).is_integer() and abs(value) >= 100:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def table(figures: Sequence[Figure]) -> str:
    """Markdown table, a row a figure."""
    lines = ["| figure | bar | measured | |", "|---|---:|---:|---|"]
    for figure in figures:
        measured = "–" if figure.value is None else f"{_number(figure.value)} {figure.unit}".strip()
        verdict = figure.verdict + (f": {figure.note}" if figure.note else "")
        lines.append(
            f"| {figure.name} | {figure.bar} {figure.unit if figure.bar != '–' else ''} | {measured} | {verdict} |"
        )
    return "\n".join(line.replace("  ", " ") for line in lines)


def write_figures(path: Path, figures: Sequence[Figure], **more: Any) -> None:
    """Write figures with their verdicts, what else was measured, and the machine."""
    rows = [{**asdict(figure), "verdict": figure.verdict} for figure in figures]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine(), "figures": rows, **more}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_figures(path: Path) -> list[Figure]:
    """Read the figures that `write_figures` wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return [Figure(**{name: value for name, value in row.items() if name != "verdict"}) for row in rows]


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, and what kept them busy in the last minute."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"processor": model, "cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 2)}
