"""Names and colours that figures and page share.

The colours are Okabe and Ito's, safe for colour-blind readers.
"""

from __future__ import annotations

CHAMPION = "champion"
"""Key of the current champion, whatever its architecture: grey, unlike the run's own networks."""

NAMES = {"nested_unet": "UNet++", "attention_unet": "Attention U-Net", "unet": "U-Net"}
COLOURS = {"nested_unet": "#0072B2", "attention_unet": "#D55E00", "unet": "#009E73", CHAMPION: "#59636E"}
MARKERS = {"nested_unet": "o", "attention_unet": "D", "unet": "s", CHAMPION: "^"}

OTHER_COLOUR, OTHER_MARKER = "#7A4E9B", "v"

TRUTH, PREDICTION, AGREED = "#35C2FF", "#FFA400", "#E8E8E8"
"""Truth alone, prediction alone, and where both agree, on a grey image."""

INK, MUTED, GRID = "#1B2733", "#5B6875", "#E1E6EB"

MATPLOTLIB: dict[str, object] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#9AA5B1",
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "figure.facecolor": "white",
}


def name_of(architecture: str) -> str:
    """Return the architecture's name in the literature."""
    return NAMES.get(architecture, architecture)


def colour_of(key: str) -> str:
    """Return the colour of an architecture, or of the champion."""
    return COLOURS.get(key, OTHER_COLOUR)


def marker_of(key: str) -> str:
    """Return the marker of an architecture, or of the champion.

    So colour is never the only difference.
    """
    return MARKERS.get(key, OTHER_MARKER)
