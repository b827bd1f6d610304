"""Elements that Streamlit lacks: linked viewports, a table to click, and plain text."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from metseg.serving.viewer.rendering import Colour

VIEWPORTS_KEY, LESIONS_KEY = "viewports", "lesions"
_MARKUP = re.compile(r"[!-/:-@\[-`{-~]")


@dataclass(frozen=True)
class Viewport:
    """One picture on the page.

    Attributes:
        key: unique on the page.
        plane: name of its plane.
        title: above it.
        colour: of its mask, before the title; None for none.
        jpeg: the picture.
        size: width and height in mm; neighbouring pictures have one scale.
        index, count: slice along the plane, and number of slices.
        cross: cross-hair as fractions of width and height; None for none.
        letters: directions at the left, right, top and bottom edge; empty where unknown.
    """

    key: str
    plane: str
    title: str
    colour: Colour | None
    jpeg: bytes
    size: tuple[float, float]
    index: int
    count: int
    cross: tuple[float, float] | None
    letters: Sequence[str] = ()

    def to_data(self) -> dict[str, object]:
        """Return the data for the browser."""
        (width, height), (x, y) = self.size, self.cross or (0.0, 0.0)
        return {
            **{name: getattr(self, name) for name in ("key", "plane", "title", "index", "count", "letters")},
            "colour": css(self.colour) if self.colour else None,
            "source": "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode(),
            "width": width,
            "height": height,
            "cross": self.cross is not None,
            "x": x,
            "y": y,
        }


def plain(value: object) -> str:
    """Return Markdown that shows a name or message as it is, in one line.

    Example:
        >>> plain("[a](b) $x$")
        '\\\\[a\\\\]\\\\(b\\\\) \\\\$x\\\\$'
    """
    return _MARKUP.sub(r"\\\g<0>", " ".join(str(value).split()))


def css(colour: Colour) -> str:
    """Return a colour for style sheets."""
    return f"rgb{colour}"


def show_viewports(
    views: Sequence[Viewport], legend: Sequence[tuple[Colour, str]], serial: int, moved: Callable[[], None]
) -> None:
    """Show pictures side by side.

    After a move, `moved` is called before the page runs, and reads `last_move`.
    """
    data = {
        "views": [view.to_data() for view in views],
        "legend": [{"colour": css(colour), "label": label} for colour, label in legend],
        "serial": serial,
    }
    html = '<div class="viewports"></div><div class="legend"></div>'
    _component(VIEWPORTS_KEY, html)(key=VIEWPORTS_KEY, data=data, on_move_change=moved)


def last_move() -> Mapping[str, object]:
    """Return the user's last move in a viewport; empty if it is malformed."""
    move = st.session_state[VIEWPORTS_KEY].get("move")
    return move if isinstance(move, Mapping) else {}


def show_lesions(
    columns: Sequence[str], rows: Mapping[int, Sequence[str]], selected: int | None, picked: Callable[[], None]
) -> None:
    """Show a table.

    After a click, `picked` is called before the page runs, and reads `last_pick`.
    """
    data = {
        "columns": list(columns),
        "rows": [{"id": number, "cells": list(cells)} for number, cells in rows.items()],
        "selected": selected,
    }
    html = '<div class="scroll"><table><thead></thead><tbody></tbody></table></div>'
    _component(LESIONS_KEY, html)(key=LESIONS_KEY, data=data, on_pick_change=picked)


def last_pick() -> int | None:
    """Return the id of the clicked row."""
    pick = st.session_state[LESIONS_KEY].get("pick")
    return pick if isinstance(pick, int) else None


@cache
def _component(name: str, html: str) -> Any:
    style, script = (Path(__file__).with_name(f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return st.components.v2.component(f"metseg_{name}", html=html, css=style, js=script)
