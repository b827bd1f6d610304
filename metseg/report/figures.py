"""The charts of a report, given as PNG bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from metseg.report.canvas import drawing, keys, png
from metseg.report.report_data import NetworkContent
from metseg.report.style import INK, colour_of, marker_of
from metseg.training.result_records import HeadScores

FAINT = "#C3CCD5"

LISTED_PATIENTS = 40
"""Up to this many patients are drawn on a line each, by name; of more the boxes alone are drawn."""

JITTER = 0.3
"""Share of a box's width over which its patients' dots are spread."""


def training_figure(networks: Sequence[NetworkContent], key: str, title: str) -> bytes:
    """Draw the `loss` or `val_dice` of every epoch of all networks."""
    with drawing(3.0) as figure:
        axes = figure.subplots()
        for network in networks:
            values = [epoch[key] for epoch in network.history if key in epoch]
            colour, marker = colour_of(network.key), marker_of(network.key)
            dot = marker if len(values) == 1 else None
            axes.plot(range(1, len(values) + 1), values, color=colour, marker=dot)
            if key == "val_dice" and values:
                best = int(np.argmax(values))
                axes.plot(best + 1, values[best], marker, color=colour, markeredgecolor="white")
        if key == "val_dice":
            axes.set_ylim(0, 1)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_ylabel("Dice" if key == "val_dice" else "loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return png(figure, keys(networks))


def size_figure(networks: Sequence[NetworkContent], unit: str = "mm") -> bytes:
    """Draw the fraction of lesions found by diameter, pooled over test patients."""
    with drawing(3.2) as figure:
        axes = figure.subplots()
        width = 0.8 / max(len(networks), 1)
        for number, network in enumerate(networks):
            shift = (number - (len(networks) - 1) / 2) * width
            for place, (entry, (low, high)) in enumerate(network.sizes()):
                if entry.sensitivity is None:
                    continue
                height = entry.sensitivity
                axes.bar(place + shift, height, width * 0.9, color=colour_of(network.key))
                axes.vlines(place + shift, low, high, color=INK, linewidth=1)
                axes.text(place + shift, max(height, high) + 0.015, f"{100 * height:.0f}", ha="center", fontsize=8)
        names = [f"{entry.name.replace('mm', unit)}\nn = {entry.lesions}" for entry, _ in networks[0].sizes()]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_ylim(0, 1.12)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.grid(False, axis="x")
        axes.set_title("True lesions found, by equivalent diameter")
        axes.set_ylabel("lesions found")
        return png(figure, keys(networks))


def calibration_figure(networks: Sequence[NetworkContent]) -> bytes:
    """Draw reliability curves above the number of voxels at each probability."""
    with drawing(4.4) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        above.plot([0, 1], [0, 1], color=FAINT, linewidth=1.4, zorder=0)
        shown = [network for network in networks if network.calibration]
        for number, network in enumerate(shown):
            _draw_reliability(above, below, network, (number - (len(shown) - 1) / 2) * 0.012)
        above.set_title("Fraction of voxels that is lesion, by probability")
        above.set_ylabel("observed fraction of lesion")
        above.set_xlim(0, 1)
        above.set_ylim(-0.02, 1.02)
        below.set_yscale("log")
        below.set_ylabel("voxels")
        below.set_xlabel("probability of lesion")
        return png(figure, keys(shown))


def cost_figure(networks: Sequence[NetworkContent]) -> bytes:
    """Draw the validation Dice of every exportable network against its multiply-adds for one slice."""
    with drawing(3.2) as figure:
        axes = figure.subplots()
        for network in networks:
            _draw_costs(axes, network)
        top = max(head.multiply_accumulates for network in networks for head in network.heads) / 1e9
        axes.set_xlim(0, 1.22 * top)
        low, high = axes.get_ylim()
        room = max(0.18 * (high - low), 0.01)
        axes.set_ylim(max(low - room, -0.02), high + room)
        axes.set_title("Validation Dice against cost")
        axes.set_xlabel("GMACs a slice")
        axes.set_ylabel("Dice")
        return png(figure, keys(networks))


def _draw_reliability(above: Axes, below: Axes, network: NetworkContent, shift: float) -> None:
    """Draw a network's curve with intervals, and its voxels in each bin."""
    assert network.calibration is not None
    bins = [entry for entry in network.calibration.bins if entry.voxels]
    places = np.array([entry.mean_probability for entry in bins])
    observed = np.array([entry.observed for entry in bins])
    colour = colour_of(network.key)
    intervals = np.array([entry.interval for entry in bins]).reshape(-1, 2)
    above.vlines(places + shift, intervals[:, 0], intervals[:, 1], color=colour, linewidth=1.2, alpha=0.7)
    above.plot(places + shift, observed, marker_of(network.key), linestyle="-", color=colour, markersize=5.5,
               linewidth=1.6, markeredgecolor="white")  # fmt: skip
    edges = [entry.lower for entry in network.calibration.bins] + [1.0]
    counts = [max(entry.voxels, 0.5) for entry in network.calibration.bins]
    below.stairs(counts, edges, color=colour, linewidth=1.6, baseline=None)


def _draw_costs(axes: Axes, network: NetworkContent) -> None:
    """Draw a network's sub-networks as a line, their average as a hollow marker."""
    colour, marker = colour_of(network.key), marker_of(network.key)
    levels = [head for head in network.heads if head.inference_head != "average"]
    axes.plot(
        [head.multiply_accumulates / 1e9 for head in levels],
        [head.dice for head in levels],
        color=colour,
        linewidth=1.4,
        marker=marker,
        markeredgecolor="white",
        markersize=7,
    )
    for head in network.heads:
        place = head.multiply_accumulates / 1e9, head.dice
        if head.inference_head == "average":
            axes.plot(*place, marker, color=colour, markerfacecolor="white", markersize=7)
        if len(network.heads) > 1:
            _label_head(axes, head, levels[-1].dice)


def _label_head(axes: Axes, head: HeadScores, last: float) -> None:
    """Write the level above its mark.

    The average, which costs as much as the last level, stands to its right.
    """
    average = head.inference_head == "average"
    axes.annotate(
        head.inference_head,
        (head.multiply_accumulates / 1e9, head.dice),
        xytext=(10, 5 if head.dice >= last else -5) if average else (-10, 6),
        textcoords="offset points",
        ha="left" if average else "right",
        va="center",
        fontsize=8.5,
        fontweight="bold" if head.exported else "normal",
        color=INK,
    )


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
    with drawing(3.3) as figure:
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
    with drawing(3.3) as figure:
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
    with drawing(1.2 + 0.25 * len(patients)) as figure:
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
