"""Charts of every test patient's scores.

There are box plots, and a line per patient if they are few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from metseg.report.canvas import canvas, keys, png, styled
from metseg.report.figures import FAINT
from metseg.report.report_data import NetworkContent
from metseg.report.style import colour_of, marker_of

LISTED_PATIENTS = 40
"""Up to this many patients are drawn on a line each, by name; of more the boxes alone are drawn."""

JITTER = 0.3
"""Share of a box's width over which its patients' dots are spread."""


def fractions_figure(networks: Sequence[NetworkContent], unit: str) -> bytes:
    """Draw box plots of the scores between 0 and 1.

    There is a group per score, a box per network and a dot per patient.
    """
    scores = {
        "dice": "Dice\n",
        "lesion_f1": f"Lesion F1\n≥ 4 {unit}",
        "lesion_sensitivity": f"Lesions found\n≥ 4 {unit}",
        "precision": "Precision\n(voxels)",
        "surface_dice": "Surface\nDice",
    }
    known = [score for score in scores if any(network.scores(score) for network in networks)]
    with styled():
        figure = canvas(3.3)
        axes = figure.subplots()
        for place, score in enumerate(known):
            _draw_boxes(axes, networks, score, place)
        axes.set_xticks(range(len(known)), [scores[score] for score in known], fontsize=8.5)
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("score of a patient")
        axes.set_title("Scores: higher is better")
        axes.grid(False, axis="x")
        return png(figure, keys(networks, ""))


def amounts_figure(networks: Sequence[NetworkContent], unit: str) -> bytes:
    """Draw box plots of counts and distances, each on an axis of its own."""
    volume = "mm³" if unit == "mm" else "voxels"
    scores = {
        "hd95_mm": "HD95, mm",
        "volume_error_mm3": f"Volume error, {volume}",
        "false_positives": "False positives",
    }
    known = [score for score in scores if any(network.scores(score) for network in networks)]
    with styled():
        figure = canvas(3.3)
        columns = figure.subplots(1, len(known), squeeze=False)[0]
        for axes, score in zip(columns, known, strict=True):
            _draw_boxes(axes, networks, score, 0)
            axes.set_title(scores[score], fontsize=9, loc="center")
            axes.set_xticks([])
            axes.grid(False, axis="x")
            if score == "false_positives":
                axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if score == "volume_error_mm3":
                axes.axhline(0, color=FAINT, linewidth=1.2, zorder=0)
            else:
                axes.set_ylim(bottom=min(0.0, -0.03 * axes.get_ylim()[1]))
        return png(figure, keys(networks, ""))


def patients_figure(networks: Sequence[NetworkContent], score: str, title: str) -> bytes:
    """Draw one score of every test patient, on a line by name."""
    patients = sorted(
        networks[0].patients, key=lambda patient: (getattr(networks[0].patients[patient], score), patient)
    )
    with styled():
        figure = canvas(1.2 + 0.25 * len(patients))
        axes = figure.subplots()
        _draw_patients(axes, networks, patients, score)
        lowest = min(min(network.scores(score)) for network in networks)
        axes.set_xlim(max(0.0, math.floor(10 * lowest - 0.5) / 10) - 0.02, 1.02)
        axes.set_title(title)
        axes.set_xlabel("dashed: mean over test patients")
        return png(figure, keys(networks, ""))


def _draw_boxes(axes: Axes, networks: Sequence[NetworkContent], score: str, place: float) -> None:
    """Draw a box and a dot per patient for each network, around `place`."""
    generator = np.random.default_rng(0)
    width = 0.84 / len(networks)
    for number, network in enumerate(networks):
        values = np.array(network.scores(score))
        if not values.size:
            continue
        middle = place + (number - (len(networks) - 1) / 2) * width
        colour = colour_of(network.key)
        line = {"color": colour, "linewidth": 1.5}
        axes.boxplot(
            values, positions=[middle], widths=0.72 * width, showfliers=False, boxprops=line, whiskerprops=line,
            capprops=line, medianprops={**line, "linewidth": 2.4}, manage_ticks=False, zorder=3,
        )  # fmt: skip
        spread = middle + generator.uniform(-JITTER, JITTER, values.size) * width
        axes.plot(
            spread, values, marker_of(network.key), color=colour, alpha=0.5, markersize=3.5, markeredgewidth=0, zorder=2
        )


def _draw_patients(axes: Axes, networks: Sequence[NetworkContent], patients: Sequence[str], score: str) -> None:
    """Draw a line a patient and a marker a network, joined if the networks differ."""
    lines = np.arange(len(patients))
    values = np.array([[getattr(network.patients[name], score) for name in patients] for network in networks])
    axes.hlines(lines, values.min(axis=0), values.max(axis=0), color=FAINT, linewidth=2, zorder=1)
    shifts = (np.arange(len(networks)) - (len(networks) - 1) / 2) * -0.24
    for network, dots, shift in zip(networks, values, shifts, strict=True):
        colour = colour_of(network.key)
        axes.plot(
            dots, lines + shift, marker_of(network.key), color=colour, markersize=6, markeredgecolor="white",
            clip_on=False,
        )  # fmt: skip
        axes.axvline(float(dots.mean()), color=colour, linewidth=1.1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_yticks(lines, [_shortened(patient) for patient in patients], fontsize=8.5)
    axes.set_ylim(-0.7, len(patients) - 0.3)
    axes.grid(False, axis="y")


def _shortened(name: str) -> str:
    """Shorten a name to 22 letters by leaving out its middle."""
    return name if len(name) <= 22 else f"{name[:10]}…{name[-11:]}"
