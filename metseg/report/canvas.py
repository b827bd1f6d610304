"""Drawing without a display: a canvas in the house style, and its content as PNG."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metseg.report.report_data import NetworkContent
from metseg.report.style import MATPLOTLIB, colour_of, marker_of

DOTS_PER_INCH = 170

WIDTH = 4.8
"""Inches of a figure; on a phone 340 points wide its letters are still as large as the page's small print."""

LONGEST = 62
"""Letters that a line of a legend holds; where the networks' names have more they stand below one another."""


def styled(grid: bool = True) -> AbstractContextManager[None]:
    """Apply the house style within the context."""
    settings: Any = {**MATPLOTLIB, "axes.grid": grid}
    return mpl.rc_context(settings)


@contextmanager
def drawing(height: float) -> Iterator[Figure]:
    """Yield an empty figure in the house style, `WIDTH` inches wide and `height` inches high."""
    with styled():
        figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def png(figure: Figure, legend: Sequence[Artist]) -> bytes:
    """Return the figure as PNG, with a legend of these artists below its axes."""
    columns = max(len(legend), 1) if sum(len(str(entry.get_label())) for entry in legend) < LONGEST else 1
    figure.legend(handles=list(legend), loc="outside lower center", ncols=columns, columnspacing=1.4, fontsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def keys(networks: Sequence[NetworkContent], linestyle: Literal["-", ""] = "-") -> list[Artist]:
    """Return the legend's entry of each network."""
    return [
        Line2D(
            [], [], linestyle=linestyle, marker=marker_of(network.key), color=colour_of(network.key),
            markeredgecolor="white", label=network.name,
        )
        for network in networks
    ]  # fmt: skip
