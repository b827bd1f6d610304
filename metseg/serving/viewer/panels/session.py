"""State of the page: of one visitor, and shared by all visitors."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from metseg.serving.client import ModelDescription, SegmentationClient
from metseg.serving.viewer.predictions import PredictionCache
from metseg.serving.viewer.slices import Position, clipped
from metseg.serving.viewer.study import Study


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
    opened: Study | None = st.session_state.get("study")
    return opened


def open_study(opened: Study) -> None:
    """Put a study on the page, and the cross-hair into its centre."""
    st.session_state["study"] = opened
    place_at([count / 2 for count in opened.shape])


def position() -> Position:
    """Return the crossing of the three planes."""
    crossing: Position = st.session_state["position"]
    return crossing


def place_at(place: Sequence[float], lesion: int | None = None) -> None:
    """Let the planes cross at a point `(slice, row, column)`, for a lesion if one was clicked."""
    opened = study()
    if opened is not None:
        st.session_state["position"] = clipped(place, opened.shape)
        st.session_state["lesion"] = lesion


def lesion() -> int | None:
    """Return the clicked lesion, as long as the cross-hair is there."""
    clicked: int | None = st.session_state.get("lesion")
    return clicked


def next_serial() -> int:
    """Return a number that no earlier picture of this page had."""
    st.session_state["serial"] = serial = int(st.session_state.get("serial", 0)) + 1
    return serial
