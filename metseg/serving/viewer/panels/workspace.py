"""The centre of the page: viewports, their controls, and the table of lesions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from metseg.serving.viewer import components
from metseg.serving.viewer.components import Viewport, plain
from metseg.serving.viewer.mask_comparison import also_marked
from metseg.serving.viewer.panels import session
from metseg.serving.viewer.predictions import StudyPrediction
from metseg.serving.viewer.rendering import (
    BOTH,
    CONTOUR,
    FILL,
    FIRST,
    HEAT,
    SECOND,
    TRUE_MASK,
    TRUTH,
    Appearance,
    Colour,
    draw,
    draw_difference,
    to_jpeg,
)
from metseg.serving.viewer.slices import AXIAL, PLANES, Plane, centre_of, extent_mm, moved
from metseg.serving.viewer.study import Study

THREE, SIDE_BY_SIDE = "Three planes", "Side by side"
A, B, DIFFERENCE = "A", "B", "Difference"
CROSS = "Cross-hair"
APPEARANCE_KEY, CROSS_KEY = "appearance", "cross"


@dataclass(frozen=True, eq=False)
class Scene:
    """A study with the finished predictions, by `A` and `B`."""

    study: Study
    predictions: Mapping[str, StudyPrediction]

    @property
    def comparable(self) -> bool:
        """True for two predictions."""
        return len(self.predictions) == 2

    @property
    def key(self) -> tuple[object, ...]:
        """Cache key of its pictures."""
        return (self.study.digest, *((name, prediction.served.key) for name, prediction in self.predictions.items()))


@st.fragment
def show_workspace(scene: Scene) -> None:
    """Draw viewports, their controls and the lesion table; a move redraws these alone."""
    study = scene.study
    view, shown, plane, appearance = _controls(scene)
    st.session_state[APPEARANCE_KEY] = appearance
    position = session.position()
    if view == SIDE_BY_SIDE:
        wanted = [(A, plane), (B, plane), (DIFFERENCE, plane)]
    else:
        wanted = [(shown, one) for one in ([AXIAL] if study.flat else PLANES.values())]
    views = [
        Viewport(
            key=f"{name}-{one.name}",
            plane=one.name,
            title=_title(scene, name) if view == SIDE_BY_SIDE else one.name.capitalize(),
            colour=_COLOURS.get(name) if view == SIDE_BY_SIDE else None,
            jpeg=_picture(scene, scene.key, name, one.name, position[one.axis], appearance),
            size=extent_mm(one, study.shape, study.geometry.spacing),
            index=position[one.axis],
            count=study.shape[one.axis],
            cross=centre_of(one, position, study.shape) if st.session_state[CROSS_KEY] else None,
            letters=one.letters if study.geometry.spacing_known else (),
        )
        for name, one in wanted
    ]
    components.show_viewports(views, _legend(scene, view, shown, appearance), session.next_serial(), _on_move)
    listed = B if shown == B and view == THREE else A
    if listed in scene.predictions:
        _lesions(scene, listed)


_COLOURS: dict[str, Colour] = {A: FIRST, B: SECOND}


def _controls(scene: Scene) -> tuple[str, str, Plane, Appearance]:
    """Return the view, the shown prediction, the plane of the side-by-side view, and the appearance."""
    study = scene.study
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        view, shown, plane = THREE, A, AXIAL
        if scene.comparable:
            view = st.segmented_control("View", [THREE, SIDE_BY_SIDE], default=THREE, required=True, key="view")
            if view == THREE:
                shown = st.segmented_control("Show", [A, B, DIFFERENCE], default=A, required=True, key="shown")
            elif not study.flat:
                name = st.segmented_control("Plane", list(PLANES), default=AXIAL.name, required=True, key="plane")
                plane = PLANES[name]
        preferred = "t1c" if "t1c" in study.channels else study.channels[-1]
        channel = st.segmented_control(
            "Channel",
            study.channels,
            default=preferred,
            required=True,
            format_func=plain,
            key=f"channel-{study.digest[:12]}",
        )
        over = [CONTOUR, FILL, HEAT] if A in scene.predictions else []
        over += [TRUE_MASK] if study.truth is not None else []
        preset = [name for name in over if name in (CONTOUR, TRUE_MASK)]
        chosen = st.pills(
            "Over the image",
            [*over, CROSS],
            selection_mode="multi",
            default=[*preset, CROSS],
            key=f"over-{len(over)}-{TRUE_MASK in over}",
        )
        st.session_state[CROSS_KEY] = CROSS in chosen
    left, right = st.columns([3, 1], gap="medium")
    with left:
        window = _window(study, channel)
    opacity = 0.4
    if A in scene.predictions:
        with right:
            opacity = st.slider("Opacity", 0, 100, 40, format="%d %%", key="opacity") / 100
    return view, shown, plane, Appearance(channel, window, tuple(name for name in over if name in chosen), opacity)


def _window(study: Study, channel: str) -> tuple[float, float]:
    low, high = study.ranges[channel]
    if high <= low:
        return low, low + 1.0
    whole = study.image.dtype.kind in "iu"
    step = 1.0 if whole and high - low >= 20 else (high - low) / 200
    start, end = study.windows[channel]
    key = f"window-{channel}-{study.digest[:12]}"
    lower, upper = st.slider(
        "Window",
        low,
        high,
        (max(low, start), min(high, end)),
        step,
        format="%.0f" if step >= 1 else "%.3g",
        key=key,
        help="Intensities drawn black and white. The default is the model's own window: percentiles inside the head.",
    )
    return lower, upper if upper > lower else lower + step


@st.cache_data(show_spinner=False, max_entries=600)
def _picture(
    _scene: Scene, scene_key: tuple[object, ...], name: str, plane_name: str, index: int, appearance: Appearance
) -> bytes:
    """Return one picture for the browser, cached while its scene and appearance are the same."""
    plane = PLANES[plane_name]
    if name == DIFFERENCE:
        first, second = _scene.predictions[A], _scene.predictions[B]
        return to_jpeg(draw_difference(_scene.study, plane, index, appearance, first, second))
    return to_jpeg(draw(_scene.study, plane, index, appearance, _scene.predictions.get(name), _COLOURS[name]))


def _title(scene: Scene, name: str) -> str:
    prediction = scene.predictions.get(name)
    return f"{name}: {prediction.served.title()}" if prediction is not None else name


def _legend(scene: Scene, view: str, shown: str, appearance: Appearance) -> list[tuple[Colour, str]]:
    legend: list[tuple[Colour, str]] = []
    if view == THREE and shown in scene.predictions and {CONTOUR, FILL} & set(appearance.overlays):
        legend.append((_COLOURS[shown], _title(scene, shown)))
    if view == SIDE_BY_SIDE or shown == DIFFERENCE:
        legend += [(BOTH, "both mark it"), (FIRST, "only A"), (SECOND, "only B")]
    if TRUE_MASK in appearance.overlays and (view == SIDE_BY_SIDE or shown != DIFFERENCE):
        legend.append((TRUTH, "true mask"))
    if HEAT in appearance.overlays and shown != DIFFERENCE:
        legend.append(((220, 60, 60), "heat: probability from blue (low) to yellow (1)"))
    return legend


def _on_move() -> None:
    study = session.study()
    if study is not None:
        session.place_at(moved(session.position(), study.shape, components.last_move()))


def _lesions(scene: Scene, name: str) -> None:
    """Draw the table; a click lets the planes cross in the lesion's centre."""
    lesions = scene.predictions[name].lesions
    st.markdown(f"**{len(lesions)} {'lesion' if len(lesions) == 1 else 'lesions'} marked by {name}**")
    if not lesions:
        return
    known = scene.study.geometry.spacing_known
    mm, mm3 = ("mm", "mm³") if known else ("voxels", "voxels")
    columns = ["#", f"volume, {mm3}", f"longest axial diameter, {mm}", "mean probability", f"centre L, P, S, {mm}"]
    more = _columns_of_others(scene, name)
    rows = {}
    for place, row in enumerate(lesions):
        rows[row.id] = [
            str(row.id),
            f"{row.volume_mm3:.0f}",
            f"{row.longest_axial_diameter_mm:.1f}",
            f"{row.mean_probability:.2f}",
            ", ".join(f"{value:.0f}" for value in row.centroid_mm),
            *("yes" if marks[place] else "no" for marks in more.values()),
        ]

    def picked() -> None:
        pick = components.last_pick()
        for row in lesions:
            if row.id == pick:
                session.place_at(row.centroid_voxel, row.id)

    components.show_lesions([*columns, *more], rows, session.lesion(), picked)


def _columns_of_others(scene: Scene, name: str) -> dict[str, list[bool]]:
    """Return the columns of lesions that the other prediction, and the true mask, mark too."""
    other = A if name == B else B
    masks = {f"in {other} too": scene.predictions[other].mask} if other in scene.predictions else {}
    if scene.study.truth is not None:
        masks["in the true mask"] = scene.study.truth
    mask = scene.predictions[name].mask
    return {title: _marked(mask, one, scene.key, name, title) for title, one in masks.items()}


@st.cache_data(show_spinner=False, max_entries=64)
def _marked(
    _mask: NDArray[np.bool_], _other: NDArray[np.bool_], scene_key: tuple[object, ...], name: str, column: str
) -> list[bool]:
    return also_marked(_mask, _other)
