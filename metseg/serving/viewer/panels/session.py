"""State of the page: of one visitor, and shared by all visitors."""

from __future__ import annotations

import streamlit as st

from metseg.serving.client import ModelDescription, SegmentationClient
from metseg.serving.viewer.predictions import PredictionCache
from metseg.serving.viewer.slices import Position, clipped
from metseg.serving.viewer.study import Study

_STUDY, _POSITION, _LESION, _SERIAL = "study", "position", "lesion", "serial"


@st.cache_resource(show_spinner=False)
def predictions() -> PredictionCache:
    """Return the cache of predictions of all visitors."""
    return PredictionCache()


@st.cache_data(show_spinner=False, max_entries=64)
def description(address: str, model: str, version: int) -> ModelDescription:
    """Return the description of a version; it never changes, so it is cached."""
    with SegmentationClient(address, model, version=version, timeout=30.0) as client:
        return client.describe()


def study() -> Study | None:
    """Return the study on the page."""
    opened: Study | None = st.session_state.get(_STUDY)
    return opened


def open_study(opened: Study) -> None:
    """Put a study on the page, and the cross-hair into its centre."""
    st.session_state[_STUDY] = opened
    place_at(tuple(count / 2 for count in opened.shape))  # type: ignore[arg-type]


def position() -> Position:
    """Return the crossing of the three planes."""
    crossing: Position = st.session_state[_POSITION]
    return crossing


def place_at(place: tuple[float, float, float], lesion: int | None = None) -> None:
    """Let the planes cross at a point `(slice, row, column)`, for a lesion if one was clicked."""
    opened = study()
    if opened is not None:
        st.session_state[_POSITION] = clipped(place, opened.shape)
        st.session_state[_LESION] = lesion


def lesion() -> int | None:
    """Return the clicked lesion, as long as the cross-hair is there."""
    clicked: int | None = st.session_state.get(_LESION)
    return clicked


def next_serial() -> int:
    """Return a number that no earlier picture of this page had."""
    st.session_state[_SERIAL] = st.session_state.get(_SERIAL, 0) + 1
    return int(st.session_state[_SERIAL])
