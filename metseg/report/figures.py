"""The figures of a report, drawn without a display and given as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from metseg.files import written_beside
from metseg.report.content import HeadContent, NetworkContent, OverlayCase
from metseg.report.style import (
    AGREED,
    INK,
    MATPLOTLIB,
    MUTED,
    PREDICTION,
    TRUTH,
    colour_of,
    marker_of,
    name_of,
)
from metseg.scoring.lesions import Lesion, SizeBin, sensitivity_by_size

DOTS_PER_INCH = 170
PANEL_PIXELS = 420
LISTED_PATIENTS = 40
"""Up to this many patients are drawn on a line each, by name; more become a distribution."""

Picture = NDArray[np.uint8]


def training_figure(networks: Sequence[NetworkContent], key: str, title: str) -> bytes:
    """One figure of every epoch, `loss` or `val_dice`, of all networks."""
    with _styled():
        figure, axes = _canvas(5.2, 3.1)
        for network in networks:
            values = [epoch[key] for epoch in network.history if key in epoch]
            epochs = range(1, len(values) + 1)
            colour = colour_of(network.architecture)
            dot = marker_of(network.architecture) if len(values) == 1 else None
            axes.plot(epochs, values, color=colour, marker=dot, label=name_of(network.architecture))
            if key == "val_dice" and values:
                best = int(np.argmax(values))
                axes.plot(
                    best + 1, values[best], marker_of(network.architecture), color=colour, markeredgecolor="white"
                )
        if key == "val_dice":
            axes.set_ylim(0, 1)
        axes.set_title(title)
        axes.set_xlabel("epoch" + (" (marker: epoch whose weights were kept)" if key == "val_dice" else ""))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        return _png(figure)


def patients_figure(networks: Sequence[NetworkContent], score: str, title: str) -> bytes:
    """One score of every test patient, on a line by name, or as distributions where the patients are many."""
    patients = sorted(networks[0].patients, key=lambda patient: networks[0].patients[patient][score])
    with _styled():
        if len(patients) > LISTED_PATIENTS:
            figure, axes = _canvas(5.2, 1.2 + 0.9 * len(networks))
            _draw_distributions(axes, networks, score)
        else:
            figure, axes = _canvas(5.2, 1.3 + 0.27 * len(patients))
            _draw_patients(axes, networks, patients, score)
        axes.set_xlim(-0.02, 1.02)
        axes.set_title(title)
        axes.set_xlabel("dashed: mean over test patients")
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.55 / figure.get_figheight() - 0.04), ncols=len(networks)
        )
        return _png(figure)


def size_figure(networks: Sequence[NetworkContent], unit: str = "mm") -> bytes:
    """Fraction of true lesions found in each range of diameters, pooled over test patients."""
    with _styled():
        figure, axes = _canvas(5.2, 3.2)
        width = 0.8 / max(len(networks), 1)
        bins: tuple[SizeBin, ...] = ()
        for number, network in enumerate(networks):
            bins = size_bins(network)
            places = np.arange(len(bins)) + (number - (len(networks) - 1) / 2) * width
            heights = [entry.sensitivity or 0.0 for entry in bins]
            axes.bar(
                places,
                heights,
                width * 0.92,
                color=colour_of(network.architecture),
                label=name_of(network.architecture),
            )
            for place, height, entry in zip(places, heights, bins, strict=True):
                if entry.lesions:
                    axes.text(place, height + 0.015, f"{height:.0%}", ha="center", fontsize=8, color=INK)
        labels = [f"{entry.name.replace('mm', unit)}\nn = {entry.lesions}" for entry in bins]
        axes.set_xticks(range(len(bins)), labels)
        axes.set_ylim(0, 1.12)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(False, axis="x")
        axes.set_title("True lesions found, by equivalent diameter")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=len(networks))
        return _png(figure)


def cost_figure(networks: Sequence[NetworkContent]) -> bytes:
    """Dice on validation patients against multiply-adds for one slice, of all that the networks can be exported as."""
    with _styled():
        figure, axes = _canvas(5.2, 3.4)
        for network in networks:
            colour, marker = colour_of(network.architecture), marker_of(network.architecture)
            levels = [head for head in network.heads if head.inference_head != "average"]
            axes.plot(
                [head.multiply_accumulates / 1e9 for head in levels],
                [head.dice for head in levels],
                color=colour,
                linewidth=1.4,
                marker=marker,
                markeredgecolor="white",
                markersize=7,
                label=name_of(network.architecture),
            )
            for head in network.heads:
                place = head.multiply_accumulates / 1e9, head.dice
                if head.inference_head == "average":
                    axes.plot(*place, marker, color=colour, markerfacecolor="white", markersize=7)
                if len(network.heads) > 1:
                    _label_head(axes, head, levels[-1].dice)
        top = max(head.multiply_accumulates for network in networks for head in network.heads) / 1e9
        axes.set_xlim(0, 1.22 * top)
        low, high = axes.get_ylim()
        room = max(0.18 * (high - low), 0.01)
        axes.set_ylim(max(low - room, -0.02), high + room)
        axes.set_title("Validation Dice against cost")
        axes.set_xlabel("GMACs a slice (hollow: average of all heads; bold: exported)")
        axes.legend(loc="best")
        return _png(figure)


def _label_head(axes: Axes, head: HeadContent, last: float) -> None:
    """The level above its mark; the average, which costs as much as the last level, beside its own."""
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


def size_bins(network: NetworkContent) -> tuple[SizeBin, ...]:
    """Lesions and found lesions of all test patients by size."""
    return sensitivity_by_size(Lesion(**lesion) for scores in network.patients.values() for lesion in scores["lesions"])


def overlay_panels(case: OverlayCase) -> dict[str, bytes]:
    """PNGs of the image, the contour of truth, the contour of the prediction, and where they differ.

    The panels show the head alone, magnified in whole steps and without interpolation.
    """
    window = _head_window(case)
    image = case.image[window]
    scale = max(1, PANEL_PIXELS // max(image.shape))
    grey = np.repeat(_magnified(image, scale)[..., None], 3, axis=-1)
    truth, prediction = (_magnified(mask[window], scale) for mask in (case.truth, case.prediction))
    return {
        "image": _encode(grey),
        "truth": _encode(_with_contour(grey, truth, TRUTH)),
        "prediction": _encode(_with_contour(grey, prediction, PREDICTION)),
        "difference": _encode(_with_difference(grey, truth, prediction)),
    }


def overlay_figure(cases: Sequence[OverlayCase], path: Path) -> None:
    """Write one overview picture: a row a case, with image, truth, prediction and difference."""
    with _styled(grid=False):
        rows = max(len(cases), 1)
        figure = Figure(figsize=(10, 0.4 + 3.2 * rows), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        bands = figure.subfigures(rows, 1, squeeze=False)[:, 0]
        for band, case in zip(bands, cases, strict=False):
            row = band.subplots(1, 4)
            for axes, (name, png) in zip(row, overlay_panels(case).items(), strict=True):
                axes.imshow(matplotlib.image.imread(io.BytesIO(png)), interpolation="none")
                axes.axis("off")
                axes.set_title(name, y=-0.11, fontsize=9, fontweight="normal", color=MUTED, loc="center")
            caption = f"{case.title.capitalize()}: {case.patient}, {name_of(case.architecture)}, Dice {case.dice:.2f}"
            band.suptitle(f"{caption}, slice {case.slice_index}", x=0.01, ha="left", fontsize=11, fontweight="bold")
        legend = [Patch(color=TRUTH, label="truth, missed"), Patch(color=PREDICTION, label="prediction, invented")]
        agreed = Patch(facecolor=AGREED, edgecolor=MUTED, label="both agree")
        figure.legend(handles=[*legend, agreed], loc="outside lower center", ncols=3)
        with written_beside(path) as beside:
            figure.savefig(beside, format="png")


def _styled(grid: bool = True) -> AbstractContextManager[None]:
    """The house style for as long as the context lasts."""
    settings: Any = {**MATPLOTLIB, "axes.grid": grid}
    return mpl.rc_context(settings)


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of this size in inches, and its axes."""
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _png(figure: Figure) -> bytes:
    """The figure as PNG, cut to its content."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", bbox_inches="tight", pad_inches=0.06)
    return stream.getvalue()


def _draw_patients(axes: Axes, networks: Sequence[NetworkContent], patients: Sequence[str], score: str) -> None:
    """A line a patient, a marker a network, joined where the networks differ."""
    lines = np.arange(len(patients))
    values = np.array([[network.patients[patient][score] for patient in patients] for network in networks])
    axes.hlines(lines, values.min(axis=0), values.max(axis=0), color="#C3CCD5", linewidth=2, zorder=1)
    shifts = (np.arange(len(networks)) - (len(networks) - 1) / 2) * -0.24
    for network, dots, shift in zip(networks, values, shifts, strict=True):
        style: dict[str, Any] = {"color": colour_of(network.architecture), "label": name_of(network.architecture)}
        axes.plot(
            dots,
            lines + shift,
            marker_of(network.architecture),
            markersize=6,
            markeredgecolor="white",
            clip_on=False,
            **style,
        )
        axes.axvline(float(dots.mean()), color=style["color"], linewidth=1.1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_yticks(lines, [_shortened(patient) for patient in patients])
    axes.set_ylim(-0.7, len(patients) - 0.3)
    axes.grid(False, axis="y")


def _draw_distributions(axes: Axes, networks: Sequence[NetworkContent], score: str) -> None:
    """A box and all patients as dots, a row a network."""
    generator = np.random.default_rng(0)
    for row, network in enumerate(reversed(networks)):
        values = np.array([scores[score] for scores in network.patients.values()])
        colour = colour_of(network.architecture)
        line = {"color": colour, "linewidth": 1.6}
        axes.boxplot(
            values, positions=[row], orientation="horizontal", widths=0.5, showfliers=False, boxprops=line,
            whiskerprops=line, capprops=line, medianprops=line, manage_ticks=False,
        )  # fmt: skip
        jitter = row + generator.uniform(-0.17, 0.17, values.size)
        axes.plot(values, jitter, marker_of(network.architecture), color=colour, alpha=0.45, markersize=4,
                  markeredgewidth=0, label=name_of(network.architecture))  # fmt: skip
        axes.axvline(float(values.mean()), color=colour, linewidth=1.1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_yticks(range(len(networks)), [name_of(network.architecture) for network in reversed(networks)])
    axes.set_ylim(-0.6, len(networks) - 0.4)
    axes.grid(False, axis="y")


def _shortened(name: str, length: int = 22) -> str:
    """A name that leaves the figure room, its middle left out."""
    return name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-length // 2 :]}"


def _head_window(case: OverlayCase) -> tuple[slice, slice]:
    """The rows and columns that hold the head and both masks, as a square where the image allows."""
    used = (case.image > 12) | case.truth | case.prediction
    window = []
    for axis in (0, 1):
        hits = np.flatnonzero(used.any(axis=1 - axis))
        size = case.image.shape[axis]
        first, last = (int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, size)
        window.append((max(first - 4, 0), min(last + 4, size)))
    side = max(last - first for first, last in window)
    squares = []
    for (first, last), size in zip(window, case.image.shape, strict=True):
        start = max(0, min((first + last - side) // 2, size - side))
        squares.append(slice(start, min(start + side, size)))
    return squares[0], squares[1]


def _magnified(plane: NDArray[Any], scale: int) -> NDArray[Any]:
    """Every pixel as a square of `scale` pixels."""
    return plane.repeat(scale, axis=0).repeat(scale, axis=1)


def _with_contour(grey: Picture, mask: NDArray[np.bool_], colour: str) -> Picture:
    """The picture with the inner edge of the mask, two pixels wide, in a colour."""
    padded = np.pad(mask, 2, mode="edge")
    height, width = mask.shape
    inner = mask.copy()
    for down in range(5):
        for right in range(5):
            inner &= padded[down : down + height, right : right + width]
    return _painted(grey, {colour: mask & ~inner}, 1.0)


def _with_difference(grey: Picture, truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> Picture:
    """The picture darkened, with agreement, missed and invented voxels filled."""
    dark = (grey * 0.55).astype(np.uint8)
    regions = {AGREED: truth & prediction, TRUTH: truth & ~prediction, PREDICTION: prediction & ~truth}
    return _painted(dark, regions, 0.9)


def _painted(grey: Picture, regions: Mapping[str, NDArray[np.bool_]], opacity: float) -> Picture:
    """The picture with each region laid over it in its colour."""
    picture = grey.astype(np.float64)
    for colour, region in regions.items():
        picture[region] = (1 - opacity) * picture[region] + opacity * 255 * np.array(to_rgb(colour))
    return np.rint(picture).astype(np.uint8)


def _encode(picture: Picture) -> bytes:
    """The picture `(height, width, 3)` as PNG."""
    stream = io.BytesIO()
    mpl.image.imsave(stream, picture, format="png")
    return stream.getvalue()
