"""The centre of the page: viewports, their controls, and the table of lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from metseg.serving.viewer import components
from metseg.serving.viewer.components import Viewport
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
    """A study with the finished predictions."""

    study: Study
    first: StudyPrediction | None = None
    second: StudyPrediction | None = None

    @property
    def both(self) -> bool:
        """Whether there are two predictions to compare."""
        return self.first is not None and self.second is not None

    def key(self) -> tuple[object, ...]:
        """Return the cache key of its pictures."""
        predictions = (prediction.served.key if prediction else None for prediction in (self.first, self.second))
        return (self.study.digest, *predictions)


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
            jpeg=_picture(scene, scene.key(), name, one.name, position[one.axis], appearance),
            width=extent_mm(one, study.shape, study.geometry.spacing)[0],
            height=extent_mm(one, study.shape, study.geometry.spacing)[1],
            index=position[one.axis],
            count=study.shape[one.axis],
            cross=centre_of(one, position, study.shape) if st.session_state[CROSS_KEY] else None,
            letters=one.letters if study.geometry.spacing_known else (),
        )
        for name, one in wanted
    ]
    components.show_viewports(views, _legend(scene, view, shown, appearance), session.next_serial(), _on_move)
    listed = scene.second if shown == B and view == THREE else scene.first
    if listed is not None:
        _lesions(scene, listed)


_COLOURS: dict[str, Colour] = {A: FIRST, B: SECOND}


def _controls(scene: Scene) -> tuple[str, str, Plane, Appearance]:
    """Return the view, the shown prediction, the plane of the side-by-side view, and the appearance."""
    study = scene.study
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        view, shown, plane = THREE, A, AXIAL
        if scene.both:
            view = st.segmented_control("View", [THREE, SIDE_BY_SIDE], default=THREE, required=True, key="view")
            if view == THREE:
                shown = st.segmented_control("Show", [A, B, DIFFERENCE], default=A, required=True, key="shown")
            elif not study.flat:
                name = st.segmented_control("Plane", list(PLANES), default=AXIAL.name, required=True, key="plane")
                plane = PLANES[name]
        preferred = "t1c" if "t1c" in study.channels else study.channels[-1]
        channel = st.segmented_control(
            "Channel", study.channels, default=preferred, required=True, key=f"channel-{study.digest[:12]}"
        )
        over = [CONTOUR, FILL, HEAT] if scene.first is not None else []
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
    if scene.first is not None:
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
    if name == DIFFERENCE and _scene.first is not None and _scene.second is not None:
        return to_jpeg(draw_difference(_scene.study, plane, index, appearance, _scene.first, _scene.second))
    prediction, colour = (_scene.second, SECOND) if name == B else (_scene.first, FIRST)
    return to_jpeg(draw(_scene.study, plane, index, appearance, prediction, colour))


def _title(scene: Scene, name: str) -> str:
    prediction = {A: scene.first, B: scene.second}.get(name)
    return f"{name}: {prediction.served.title()}" if prediction else name


def _legend(scene: Scene, view: str, shown: str, appearance: Appearance) -> list[tuple[Colour, str]]:
    legend: list[tuple[Colour, str]] = []
    masks = bool({CONTOUR, FILL} & set(appearance.overlays))
    if view == THREE and scene.first is not None and masks and shown != DIFFERENCE:
        prediction = scene.second if shown == B else scene.first
        legend.append((_COLOURS[shown], f"{shown}: {prediction.served.title() if prediction else ''}"))
    if scene.both and (view == SIDE_BY_SIDE or shown == DIFFERENCE):
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


def _lesions(scene: Scene, prediction: StudyPrediction) -> None:
    """Draw the table; a click lets the planes cross in the lesion's centre."""
    name = B if prediction is scene.second else A
    count = len(prediction.lesions)
    st.markdown(f"**{count} {'lesion' if count == 1 else 'lesions'} marked by {name}**")
    if not prediction.lesions:
        return
    known = scene.study.geometry.spacing_known
    mm, mm3 = ("mm", "mm³") if known else ("voxels", "voxels")
    columns = ["#", f"volume, {mm3}", f"longest axial diameter, {mm}", "mean probability", f"centre L, P, S, {mm}"]
    more = _columns_of_others(scene, prediction)
    rows = {}
    for place, row in enumerate(prediction.lesions):
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
        chosen = next((row for row in prediction.lesions if row.id == pick), None)
        if chosen is not None:
            session.place_at(chosen.centroid_voxel, chosen.id)

    components.show_lesions([*columns, *more], rows, session.lesion(), picked)


def _columns_of_others(scene: Scene, prediction: StudyPrediction) -> dict[str, list[bool]]:
    """Return the columns of lesions that the other prediction, and the true mask, mark too."""
    others = {}
    other = scene.first if prediction is scene.second else scene.second
    if other is not None:
        others[f"in {A if prediction is scene.second else B} too"] = _marked(
            prediction.mask, other.mask, scene.key(), prediction.served.key
        )
    if scene.study.truth is not None:
        others["in the true mask"] = _marked(
            prediction.mask, scene.study.truth, scene.key(), (*prediction.served.key, "truth")
        )
    return others


@st.cache_data(show_spinner=False, max_entries=64)
def _marked(
    _mask: NDArray[np.bool_], _other: NDArray[np.bool_], scene_key: tuple[object, ...], which: tuple[object, ...]
) -> list[bool]:
    return also_marked(_mask, _other)
