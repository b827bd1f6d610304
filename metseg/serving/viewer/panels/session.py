"""What the page remembers of one visitor, and what all visitors share."""

from __future__ import annotations

from typing import Any

import streamlit as st

from metseg.serving.client.segmentation_client import SegmentationClient
from metseg.serving.viewer.predictions import Desk
from metseg.serving.viewer.slices import Position, clipped
from metseg.serving.viewer.study import Study

_STUDY, _POSITION, _LESION, _SERIAL = "study", "position", "lesion", "serial"


@st.cache_resource(show_spinner=False)
def desk() -> Desk:
    """The one desk that asks models, for all visitors."""
    return Desk()


@st.cache_data(show_spinner=False, max_entries=64)
def description(address: str, model: str, version: int) -> dict[str, Any]:
    """What a version says of itself; it never changes, so it is asked once."""
    with SegmentationClient(address, model, version=version, timeout=30.0) as client:
        return client.describe()


def study() -> Study | None:
    """The study on the page."""
    found: Study | None = st.session_state.get(_STUDY)
    return found


def open_study(opened: Study) -> None:
    """Put a study on the page, and the cross-hair into its middle."""
    st.session_state[_STUDY] = opened
    place_at(tuple(count / 2 for count in opened.shape))  # type: ignore[arg-type]


def position() -> Position:
    """Where the three planes cross."""
    found: Position = st.session_state[_POSITION]
    return found


def place_at(place: tuple[float, float, float], lesion: int | None = None) -> None:
    """Let the planes cross at a point `(slice, row, column)`, perhaps because that lesion lies there."""
    opened = study()
    if opened is not None:
        st.session_state[_POSITION] = clipped(place, opened.shape)
        st.session_state[_LESION] = lesion


def lesion() -> int | None:
    """The lesion that was clicked last, as long as the cross-hair is there."""
    found: int | None = st.session_state.get(_LESION)
    return found


def next_serial() -> int:
    """A number that no earlier picture of this page had."""
    st.session_state[_SERIAL] = st.session_state.get(_SERIAL, 0) + 1
    return int(st.session_state[_SERIAL])
