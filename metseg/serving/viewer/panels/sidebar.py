"""The side panel: choice of study and models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from metseg.dataset.archives import is_archive
from metseg.errors import MetsegError
from metseg.imaging.dicom.mr_sequences import CHANNELS
from metseg.serving.viewer.components import plain
from metseg.serving.viewer.model_versions import ServedVersion, pair_to_show
from metseg.serving.viewer.panels import session
from metseg.serving.viewer.samples import Samples, folder_samples, phantom_samples
from metseg.serving.viewer.study import Study
from metseg.serving.viewer.uploads import TRUTH, Upload, open_uploads, roles_of

LEAVE_OUT = "leave out"
NONE = "none"
_ROUND = "upload-round"
_SAMPLE, _UPLOAD = "Sample", "Your files"
_HELP = (
    "NIfTI or NRRD, one file a channel, named like head-t1c.nii.gz; a PNG, JPEG or TIFF; DICOM files; or a ZIP of one "
    "study. A file named like head-seg.nii.gz is taken as the true mask. Files stay in this machine's memory until the "
    "page is closed, and their names are not kept."
)


def choose_study(wanted: Sequence[str], labels: Sequence[str], samples: Path | None) -> None:
    """Let the user upload or pick a study, and put it on the page."""
    st.subheader("Study", anchor=False)
    source = st.segmented_control(
        "Where from", [_SAMPLE, _UPLOAD], default=_SAMPLE, required=True, label_visibility="collapsed"
    )
    if source == _UPLOAD:
        _drop(wanted, labels)
    else:
        _pick(tuple(wanted), tuple(labels), samples)


def choose_models(versions: Sequence[ServedVersion]) -> tuple[ServedVersion | None, ServedVersion | None]:
    """Let the user choose a version to show, and another one to compare with."""
    st.subheader("Models", anchor=False)
    if not versions:
        st.caption("No model is available; images can be viewed.")
        return None, None
    several = len({one.model for one in versions}) > 1

    def title(one: ServedVersion | None) -> str:
        return one.short(several) if one else NONE

    first, second = pair_to_show(versions)
    chosen = st.selectbox("A", versions, versions.index(first) if first else 0, title, help=_TITLE_HELP)
    others = [None, *(one for one in versions if one != chosen)]
    preset = others.index(second) if second in others else 0
    return chosen, st.selectbox("B, to compare with", others, preset, title, help=_TITLE_HELP)


_TITLE_HELP = (
    "The label stable is the registry's champion, canary its challenger. Versions without a label can be chosen if the "
    "server holds them."
)


def _pick(wanted: tuple[str, ...], labels: tuple[str, ...], root: Path | None) -> None:
    try:
        titles = list(_samples(root, wanted, labels))
    except MetsegError as error:
        st.error(f"The samples cannot be read: {plain(error)}")
        root, titles = None, list(phantom_samples(labels))
    title = st.selectbox("Sample", titles, index=None, placeholder="Pick a study", key="sample")
    if title is not None and st.session_state.get("opened-sample") != (title, labels):
        st.session_state["opened-sample"] = (title, labels)
        with st.spinner("Opening the study"), _errors_shown():
            session.open_study(_open_sample(title, root, wanted, labels))


def _drop(wanted: Sequence[str], labels: Sequence[str]) -> None:
    number = st.session_state.setdefault(_ROUND, 0)
    # The widget's limit is the server's `maxUploadSize`.
    files = st.file_uploader("Files of one study", accept_multiple_files=True, key=f"{_ROUND}-{number}", help=_HELP)
    if not files:
        st.caption(f"The model takes {plain(', '.join(wanted))}.")
        return
    uploads = [Upload(file.name, file.getvalue()) for file in files]
    roles = _chosen_roles(uploads, wanted)
    if st.button("Open the study", type="primary", width="stretch"):
        chosen = [(upload, role) for upload, role in zip(uploads, roles, strict=True) if role != LEAVE_OUT]
        with st.spinner("Reading the study"), _errors_shown():
            session.open_study(open_uploads(chosen, wanted, labels))
            # A new widget is empty: neither the files nor their names stay.
            st.session_state[_ROUND] = number + 1
            st.session_state.pop("opened-sample", None)
            st.rerun()


def _chosen_roles(uploads: Sequence[Upload], wanted: Sequence[str]) -> list[str | None]:
    """Return the role of each file; the user chooses those that names do not state."""
    roles = roles_of([upload.name for upload in uploads], wanted)
    images = not any(is_archive(upload.name) or upload.is_dicom for upload in uploads)
    unknown = [place for place, role in enumerate(roles) if role is None]
    if not images or not unknown:
        return roles
    st.caption("The names do not state the channel of these files, in the order of the list:")
    choices = [*dict.fromkeys((*wanted, *CHANNELS)), TRUTH, LEAVE_OUT]
    free = [name for name in wanted if name not in roles]
    for turn, place in enumerate(unknown):
        guess = choices.index(free[turn]) if turn < len(free) else len(choices) - 1
        roles[place] = st.selectbox(f"File {place + 1} is", choices, index=guess, key=f"role-{place}")
    return roles


@contextmanager
def _errors_shown() -> Iterator[None]:
    """Show an error of metseg as a sentence on the page."""
    try:
        yield
    except MetsegError as error:
        st.error(plain(error))


@st.cache_resource(show_spinner=False, max_entries=2)
def _samples(root: Path | None, wanted: tuple[str, ...], labels: tuple[str, ...]) -> Samples:
    return (folder_samples(root, wanted, labels) if root else {}) | phantom_samples(labels)


@st.cache_resource(show_spinner=False, max_entries=4)
def _open_sample(title: str, root: Path | None, wanted: tuple[str, ...], labels: tuple[str, ...]) -> Study:
    return _samples(root, wanted, labels)[title]()
