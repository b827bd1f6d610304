"""Below the pictures: the comparison in numbers, scores, what the models are, and files to take away."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import streamlit as st

from metseg.errors import MetsegError
from metseg.scoring.lesion_matching import Spacing
from metseg.scoring.patient import PatientScores, score_patient
from metseg.serving.viewer import downloads
from metseg.serving.viewer.mask_comparison import Agreement, agreement
from metseg.serving.viewer.panels import session
from metseg.serving.viewer.panels.workspace import LOOK_KEY, Scene
from metseg.serving.viewer.predictions import Answer
from metseg.serving.viewer.registry_card import RegistryCard, read_card
from metseg.settings import Settings

_SCORES = {
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "sensitivity",
    "precision": "precision",
    "lesion_f1": "lesion F1 (4 mm and more)",
    "lesion_wise_dice": "lesion-wise Dice (BraTS-METS 2023)",
    "true_lesions": "true lesions (4 mm and more)",
    "false_positives": "false positives",
    "volume_error_mm3": "volume error, mm³",
    "hd95_mm": "95 % surface distance, mm",
    "surface_dice": "surface Dice at 1 mm",
}


def show_details(scene: Scene) -> None:
    """The tabs."""
    compared, scored, model, files = st.tabs(["Comparison", "Scores", "Model", "Download"])
    with compared:
        _comparison(scene)
    with scored:
        _scores(scene)
    with model:
        for name, answer in (("A", scene.first), ("B", scene.second)):
            if answer is not None:
                _model(name, answer)
    with files:
        _downloads(scene)


def _comparison(scene: Scene) -> None:
    if scene.first is None or scene.second is None:
        st.caption("Choose a model for B in the side panel to compare two answers.")
        return
    found = _agreement(scene.first, scene.second, scene.study.geometry.spacing, scene.key())
    unit = "mm³" if scene.study.geometry.spacing_known else "voxels"
    cells = st.columns(4)
    cells[0].metric(
        "Dice between A and B", f"{found.dice:.3f}", help="1 is agreement in every voxel; no truth is meant."
    )
    cells[1].metric(f"Both, {unit}", f"{found.both_mm3:,.0f}")
    cells[2].metric(f"Only A, {unit}", f"{found.only_first_mm3:,.0f}")
    cells[3].metric(f"Only B, {unit}", f"{found.only_second_mm3:,.0f}")
    st.markdown(
        f"A marks {found.first_lesions} lesions, {found.first_alone} of them where B marks nothing; "
        f"B marks {found.second_lesions}, {found.second_alone} of them where A marks nothing."
    )


def _scores(scene: Scene) -> None:
    if scene.study.truth is None:
        st.caption("No true mask came with the study. Drop one named like head-seg.nii.gz with it to see scores.")
        return
    answers = {"A": scene.first, "B": scene.second}
    columns = {
        f"{name}: {answer.served.title()}": _score(scene, answer, scene.study.digest, answer.served.key)
        for name, answer in answers.items()
        if answer is not None
    }
    table = {title: [_number(getattr(scores, field)) for field in _SCORES] for title, scores in columns.items()}
    st.table(pd.DataFrame(table, index=list(_SCORES.values())), width="content")
    st.caption("Against the true mask that came with this study. One study says little about a model.")


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 or (float(value).is_integer() and abs(value) > 1) else f"{value:.3g}"


def _model(name: str, answer: Answer) -> None:
    served, said = answer.served, answer.description
    st.markdown(f"**{name}: {served.model}, version {served.version}**")
    facts = {
        "labels": ", ".join(served.labels) or "none",
        "architecture": said.get("architecture"),
        "channels": ", ".join(said.get("channels", ())),
        "labels that are lesion": ", ".join(map(str, said.get("labels", ()))),
        "threshold": said.get("threshold"),
        "minimum lesion volume, mm³": said.get("minimum_volume_mm3"),
        "data version": said.get("data.version"),
        "git commit": said.get("git.commit"),
        "metseg": said.get("metseg.version"),
        "answered in": f"{answer.seconds:.1f} s",
    }
    frame = pd.DataFrame({"": [str(value) for value in facts.values() if value is not None]})
    frame.index = [key for key, value in facts.items() if value is not None]
    st.table(frame, width="content", hide_header=True)
    with st.expander("Whole specification"):
        st.code(json.dumps(dict(said), indent=1), language="json")
    # A toggle: what a button opens is gone with the next thing that the page reports.
    if st.toggle("Registry's model card", key=f"card-{name}"):
        try:
            _show_card(_card(served.model, served.version))
        except MetsegError as error:
            st.info(str(error))


def _show_card(card: RegistryCard) -> None:
    if card.aliases:
        st.markdown(f"Aliases: {', '.join(card.aliases)}")
    if card.text:
        st.markdown(card.text)
    st.table(pd.DataFrame({"tag": card.tags.keys(), "value": card.tags.values()}), hide_index=True, width="content")


def _downloads(scene: Scene) -> None:
    study, look, answer = scene.study, st.session_state[LOOK_KEY], scene.first
    if answer is None:
        return
    stem = f"version-{answer.served.version}"
    st.caption(f"Of A: {answer.served.title()}. Research use only, not a medical device.")
    name = f"mask-{stem}{downloads.mask_suffix_of(study)}"
    # Files are made when they are asked for.
    with st.container(horizontal=True):
        st.download_button(
            "Mask", lambda: downloads.mask_file(study, answer), name, "application/octet-stream", on_click="ignore"
        )
        st.download_button(
            "lesions.json",
            lambda: downloads.lesions_json(study, answer),
            f"lesions-{stem}.json",
            "application/json",
            on_click="ignore",
        )
        st.download_button(
            "CSV", lambda: downloads.lesions_csv(answer), f"lesions-{stem}.csv", "text/csv", on_click="ignore"
        )
        st.download_button(
            "Overlays of all lesions (ZIP of PNG)",
            lambda: downloads.overlays_zip(study, answer, st.session_state.get(LOOK_KEY, look)),
            f"overlays-{stem}.zip",
            "application/zip",
            on_click="ignore",
        )
        st.download_button(
            "This view (PNG)",
            lambda: downloads.planes_png(study, answer, session.position(), st.session_state.get(LOOK_KEY, look)),
            f"view-{stem}.png",
            "image/png",
            on_click="ignore",
        )


@st.cache_data(show_spinner=False, max_entries=32)
def _agreement(_first: Answer, _second: Answer, spacing: Spacing, scene_key: tuple[object, ...]) -> Agreement:
    return agreement(_first.mask, _second.mask, spacing)


@st.cache_data(show_spinner="Scoring", max_entries=32)
def _score(_scene: Scene, _answer: Answer, digest: str, key: tuple[str, int]) -> PatientScores:
    study = _scene.study
    return score_patient(np.asarray(study.truth), _answer.mask, study.geometry.spacing, study.geometry.spacing_known)


@st.cache_data(show_spinner="Asking MLflow", max_entries=16, ttl=60)
def _card(model: str, version: int) -> RegistryCard:
    return read_card(model, version, Settings.from_environment())
