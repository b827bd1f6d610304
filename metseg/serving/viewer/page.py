"""The page that app.py serves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

import streamlit as st

from metseg.errors import MetsegError
from metseg.imaging.channel_names import DEFAULT_CHANNELS
from metseg.process_environment import apply_defaults
from metseg.serving.viewer.components import plain
from metseg.serving.viewer.model_versions import ServedVersion, list_versions
from metseg.serving.viewer.options import ViewerOptions
from metseg.serving.viewer.panels import session
from metseg.serving.viewer.panels.details import show_details
from metseg.serving.viewer.panels.sidebar import choose_models, choose_study
from metseg.serving.viewer.panels.workspace import A, B, Scene, show_workspace
from metseg.serving.viewer.predictions import StudyPrediction

DEFAULT_LABELS = ("1", "3")
POLL_SECONDS = 0.5
_STYLE = """
<style>
.stMainBlockContainer { padding: 1.5rem 2.5rem 0; }
.stElementContainer:has(.metseg-warning) { order: 999; position: sticky; bottom: 0; z-index: 100; }
.metseg-warning { padding: 4px 16px; background: #8a4b00; color: #fff; font-size: 0.85rem; text-align: center; }
</style>
<div class="metseg-warning" role="note"><b>Not a medical device.</b> Research use only: what is shown here must not
guide diagnosis or treatment.</div>
"""


def main() -> None:
    """Draw the page."""
    apply_defaults()
    st.set_page_config(page_title="metseg viewer", layout="wide")
    st.html(_STYLE)
    try:
        options = ViewerOptions.from_environment()
    except MetsegError as error:
        st.error(plain(error))
        return
    versions, missing, failure = _available(options)
    with st.sidebar:
        st.markdown("### metseg viewer")
        study_place = st.container()
        first, second = choose_models(versions)
        for sentence in missing:
            st.caption(plain(sentence))
        st.caption(f"Model server: {plain(options.server)}")
        if st.button("Query the server again", width="stretch"):
            session.predictions().forget_failed()
            st.rerun()
        described = session.description(options.server, *first.key) if first else None
        with study_place:
            channels = described.channels if described else DEFAULT_CHANNELS
            choose_study(channels, (described and described.labels) or DEFAULT_LABELS, options.samples)
    if failure:
        st.error(plain(failure))
    _main_panel(options.server, first, second)


def _available(options: ViewerOptions) -> tuple[list[ServedVersion], list[str], str]:
    """Return the versions with architectures, missing models and labels, and a failure of the server."""
    try:
        listed, missing = list_versions(options.server, options.models)
    except MetsegError as error:
        return [], [], str(error)
    versions = []
    for served in listed:
        try:
            architecture = session.description(options.server, *served.key).architecture
            versions.append(replace(served, architecture=architecture))
        except MetsegError as error:
            missing.append(str(error))
    return versions, missing, ""


def _main_panel(address: str, first: ServedVersion | None, second: ServedVersion | None) -> None:
    study = session.study()
    if study is None:
        st.markdown("#### Pick a sample or drop a study in the side panel")
        st.caption(
            "Click or drag in a picture to move the cross-hair, turn the wheel for slices, click a lesion to go there."
        )
        return
    size = " × ".join(str(count) for count in reversed(study.shape))
    spacing = " × ".join(f"{step:.3g}" for step in reversed(study.geometry.spacing))
    known = study.geometry.spacing_known
    st.markdown(f"#### {plain(study.title)}")
    st.caption(f"{size} voxels, " + (f"{spacing} mm" if known else "spacing and orientation unknown"))
    for note in study.notes:
        st.info(plain(note))
    cache = session.predictions()
    futures = {name: cache.get(address, served, study) for name, served in ((A, first), (B, second)) if served}
    under_way = [future for future in futures.values() if not future.done()]
    scene = Scene(study, _finished(futures))
    if under_way:
        _wait(under_way, time.monotonic())
    show_workspace(scene)
    if A in scene.predictions:
        show_details(scene)


def _finished(futures: Mapping[str, Future[StudyPrediction]]) -> dict[str, StudyPrediction]:
    """Return the finished predictions; show a failure in a sentence."""
    predictions = {}
    for name, future in futures.items():
        if future.done():
            try:
                predictions[name] = future.result()
            except MetsegError as error:
                st.error(f"{name} has no result. {plain(error)}")
    return predictions


@st.fragment(run_every=POLL_SECONDS)
def _wait(futures: Sequence[Future[StudyPrediction]], since: float) -> None:
    """Report that models compute, and redraw the page when they are done."""
    if all(future.done() for future in futures):
        st.rerun()
    st.info(
        f"Segmenting, {time.monotonic() - since:.0f} s so far. The images can be viewed meanwhile.",
        icon=":material/hourglass_top:",
    )


main()
