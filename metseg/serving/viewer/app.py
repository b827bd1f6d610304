"""The page: `metseg viewer`, or `streamlit run metseg/serving/viewer/app.py`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import streamlit as st

from metseg.environment import apply_defaults
from metseg.errors import MetsegError
from metseg.serving.viewer.model_versions import Served, Survey, survey
from metseg.serving.viewer.options import ViewerOptions
from metseg.serving.viewer.panels import session
from metseg.serving.viewer.panels.details import show_details
from metseg.serving.viewer.panels.sidebar import choose_models, choose_study
from metseg.serving.viewer.panels.workspace import Scene, show_workspace
from metseg.serving.viewer.predictions import Answer

DEFAULT_CHANNELS = ("t1n", "t2f", "t1c")
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
        st.error(str(error))
        return
    found, failure = _survey(options)
    with st.sidebar:
        st.markdown("### metseg viewer")
        study_place = st.container()
        first, second = choose_models(found.served)
        for sentence in found.absent:
            st.caption(sentence)
        st.caption(f"Model server: {options.server}")
        if st.button("Ask the server again", width="stretch"):
            session.desk().forget_failed()
            st.rerun()
        said: dict[str, Any] = dict(session.description(options.server, *first.key)) if first else {}
        with study_place:
            channels = [str(name) for name in said.get("channels", DEFAULT_CHANNELS)]
            choose_study(channels, [str(label) for label in said.get("labels", ("1", "3"))], options.samples)
    if failure:
        st.error(failure)
    _main_panel(options.server, first, second)


def _survey(options: ViewerOptions) -> tuple[Survey, str]:
    """What the server holds, each version with its architecture; or why it cannot be told."""
    try:
        found = survey(options.server, options.models)
    except MetsegError as error:
        return Survey(), str(error)
    served, absent = [], list(found.absent)
    for one in found.served:
        try:
            said = session.description(options.server, *one.key)
        except MetsegError as error:
            absent.append(str(error))
        else:
            served.append(replace(one, architecture=str(said.get("architecture", ""))))
    return Survey(tuple(served), tuple(absent)), ""


def _main_panel(address: str, first: Served | None, second: Served | None) -> None:
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
    st.markdown(f"#### {study.title}")
    st.caption(f"{size} voxels, " + (f"{spacing} mm" if known else "spacing and orientation unknown"))
    for note in study.notes:
        st.info(note)
    desk = session.desk()
    futures = [desk.answer(address, one, study) if one else None for one in (first, second)]
    answers = [_answer(name, future) for name, future in zip("AB", futures, strict=True)]
    under_way = [future for future in futures if future is not None and not future.done()]
    if under_way:
        _wait(under_way, time.monotonic())
    scene = Scene(study, *answers)
    show_workspace(scene)
    if scene.first is not None:
        show_details(scene)


def _answer(name: str, future: Future[Answer] | None) -> Answer | None:
    """The answer that is there; a failure is said in a sentence."""
    if future is None or not future.done():
        return None
    error = future.exception()
    if error is None:
        return future.result()
    if not isinstance(error, MetsegError):
        raise error
    st.error(f"{name} did not answer. {error}")
    return None


@st.fragment(run_every=POLL_SECONDS)
def _wait(futures: Sequence[Future[Answer]], since: float) -> None:
    """Say that models are at work, and draw the page anew when they are done; the images can be looked at meanwhile."""
    if all(future.done() for future in futures):
        st.rerun()
    st.info(
        f"Segmenting, {time.monotonic() - since:.0f} s so far. The images can be looked at meanwhile.",
        icon=":material/hourglass_top:",
    )


main()
