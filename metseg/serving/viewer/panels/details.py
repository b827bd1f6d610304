"""Tabs below the pictures: comparison, scores, models and downloads."""

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
from metseg.serving.viewer.panels.workspace import APPEARANCE_KEY, Scene
from metseg.serving.viewer.predictions import StudyPrediction
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
    """Draw the tabs."""
    compared, scored, model, files = st.tabs(["Comparison", "Scores", "Model", "Download"])
    with compared:
        _comparison(scene)
    with scored:
        _scores(scene)
    with model:
        for name, prediction in (("A", scene.first), ("B", scene.second)):
            if prediction is not None:
                _model(name, prediction)
    with files:
        _downloads(scene)


def _comparison(scene: Scene) -> None:
    if scene.first is None or scene.second is None:
        st.caption("Choose a model for B in the side panel to compare two segmentations.")
        return
    agreed = _agreement(scene.first, scene.second, scene.study.geometry.spacing, scene.key())
    unit = "mm³" if scene.study.geometry.spacing_known else "voxels"
    cells = st.columns(4)
    cells[0].metric(
        "Dice between A and B", f"{agreed.dice:.3f}", help="1 is agreement in every voxel; neither is the truth."
    )
    cells[1].metric(f"Both, {unit}", f"{agreed.both_mm3:,.0f}")
    cells[2].metric(f"Only A, {unit}", f"{agreed.only_first_mm3:,.0f}")
    cells[3].metric(f"Only B, {unit}", f"{agreed.only_second_mm3:,.0f}")
    st.markdown(
        f"A marks {agreed.first_lesions} lesions, {agreed.first_alone} of them where B marks nothing; "
        f"B marks {agreed.second_lesions}, {agreed.second_alone} of them where A marks nothing."
    )


def _scores(scene: Scene) -> None:
    if scene.study.truth is None:
        st.caption("No true mask came with the study. Drop one named like head-seg.nii.gz with it to see scores.")
        return
    predictions = {"A": scene.first, "B": scene.second}
    columns = {
        f"{name}: {prediction.served.title()}": _score(scene, prediction, scene.study.digest, prediction.served.key)
        for name, prediction in predictions.items()
        if prediction is not None
    }
    table = {title: [_number(getattr(scores, field)) for field in _SCORES] for title, scores in columns.items()}
    st.table(pd.DataFrame(table, index=list(_SCORES.values())), width="content")
    st.caption("Against the true mask that came with this study. One study is little evidence about a model.")


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 or (float(value).is_integer() and abs(value) > 1) else f"{value:.3g}"


def _model(name: str, prediction: StudyPrediction) -> None:
    served, described = prediction.served, prediction.description
    fields = described.fields
    st.markdown(f"**{name}: {served.model}, version {served.version}**")
    facts = {
        "labels": ", ".join(served.labels) or "none",
        "architecture": fields.get("architecture"),
        "channels": ", ".join(described.channels),
        "labels that are lesion": ", ".join(described.labels),
        "threshold": fields.get("threshold"),
        "minimum lesion volume, mm³": fields.get("minimum_volume_mm3"),
        "data version": fields.get("data.version"),
        "git commit": fields.get("git.commit"),
        "metseg": fields.get("metseg.version"),
        "segmented in": f"{prediction.seconds:.1f} s",
    }
    frame = pd.DataFrame({"": [str(value) for value in facts.values() if value is not None]})
    frame.index = [key for key, value in facts.items() if value is not None]
    st.table(frame, width="content", hide_header=True)
    with st.expander("Whole specification"):
        st.code(json.dumps(dict(fields), indent=1), language="json")
    # A toggle: the content of a button disappears with the next event of the page.
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
    study, appearance, prediction = scene.study, st.session_state[APPEARANCE_KEY], scene.first
    if prediction is None:
        return
    stem = f"version-{prediction.served.version}"
    st.caption(f"Of A: {prediction.served.title()}. Research use only, not a medical device.")
    name = f"mask-{stem}{downloads.mask_suffix_of(study)}"
    # Files are made on download.
    with st.container(horizontal=True):
        st.download_button(
            "Mask", lambda: downloads.mask_file(study, prediction), name, "application/octet-stream", on_click="ignore"
        )
        st.download_button(
            "lesions.json",
            lambda: downloads.lesions_json(study, prediction),
            f"lesions-{stem}.json",
            "application/json",
            on_click="ignore",
        )
        st.download_button(
            "CSV", lambda: downloads.lesions_csv(prediction), f"lesions-{stem}.csv", "text/csv", on_click="ignore"
        )
        st.download_button(
            "Overlays of all lesions (ZIP of PNG)",
            lambda: downloads.overlays_zip(study, prediction, st.session_state.get(APPEARANCE_KEY, appearance)),
            f"overlays-{stem}.zip",
            "application/zip",
            on_click="ignore",
        )
        st.download_button(
            "This view (PNG)",
            lambda: downloads.planes_png(
                study, prediction, session.position(), st.session_state.get(APPEARANCE_KEY, appearance)
            ),
            f"view-{stem}.png",
            "image/png",
            on_click="ignore",
        )


@st.cache_data(show_spinner=False, max_entries=32)
def _agreement(
    _first: StudyPrediction, _second: StudyPrediction, spacing: Spacing, scene_key: tuple[object, ...]
) -> Agreement:
    return agreement(_first.mask, _second.mask, spacing)


@st.cache_data(show_spinner="Scoring", max_entries=32)
def _score(_scene: Scene, _answer: StudyPrediction, digest: str, key: tuple[str, int]) -> PatientScores:
    study = _scene.study
    return score_patient(np.asarray(study.truth), _answer.mask, study.geometry.spacing, study.geometry.spacing_known)


@st.cache_data(show_spinner="Querying MLflow", max_entries=16, ttl=60)
def _card(model: str, version: int) -> RegistryCard:
    return read_card(model, version, Settings.from_environment())
