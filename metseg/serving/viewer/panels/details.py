"""Tabs below the pictures: comparison, scores, models and downloads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from metseg.errors import MetsegError
from metseg.scoring.lesion_matching import Spacing
from metseg.scoring.patient_scores import PatientScores, score_patient
from metseg.serving.viewer import downloads
from metseg.serving.viewer.components import plain
from metseg.serving.viewer.mask_comparison import Agreement, agreement
from metseg.serving.viewer.panels import session
from metseg.serving.viewer.panels.workspace import APPEARANCE_KEY, A, B, Scene
from metseg.serving.viewer.predictions import StudyPrediction
from metseg.serving.viewer.rendering import Appearance
from metseg.serving.viewer.study import Study
from metseg.settings import Settings
from metseg.tracking.model_registry import Version, version

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
        for name, prediction in scene.predictions.items():
            _model(name, prediction)
    with files:
        _downloads(scene.study, scene.predictions[A], st.session_state[APPEARANCE_KEY])


def _comparison(scene: Scene) -> None:
    if not scene.comparable:
        st.caption("Choose a model for B in the side panel to compare two segmentations.")
        return
    agreed = _agreement(scene.predictions[A], scene.predictions[B], scene.study.geometry.spacing, scene.key)
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
    study = scene.study
    if study.truth is None:
        st.caption("No true mask came with the study. Drop one named like head-seg.nii.gz with it to see scores.")
        return
    table = {}
    for name, prediction in scene.predictions.items():
        scores = _score(study, prediction, study.digest, prediction.served.key)
        table[f"{name}: {plain(prediction.served.title())}"] = [_number(getattr(scores, field)) for field in _SCORES]
    st.table(pd.DataFrame(table, index=list(_SCORES.values())), width="content")
    st.caption("Against the true mask that came with this study. One study is little evidence about a model.")


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 or (float(value).is_integer() and abs(value) > 1) else f"{value:.3g}"


def _model(name: str, prediction: StudyPrediction) -> None:
    served, described = prediction.served, prediction.segmentation.description
    fields = described.fields
    st.markdown(f"**{name}: {plain(served.model)}, version {served.version}**")
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
    known = pd.Series(facts, dtype=object).dropna().map(plain)
    st.table(known.to_frame(""), width="content", hide_header=True)
    with st.expander("Whole specification"):
        st.code(json.dumps(dict(fields), indent=1), language="json")
    # A toggle: the content of a button disappears with the next event of the page.
    if st.toggle("Registry's model card", key=f"card-{name}"):
        try:
            card, entry = _card(served.model, served.version)
        except MetsegError as error:
            st.info(plain(error))
            return
        if entry.aliases:
            st.markdown(f"Aliases: {plain(', '.join(entry.aliases))}")
        st.markdown(card)
        tags = pd.DataFrame(entry.tags.items(), columns=["tag", "value"]).map(plain)
        st.table(tags, hide_index=True, width="content")


def _downloads(study: Study, prediction: StudyPrediction, appearance: Appearance) -> None:
    stem = f"version-{prediction.served.version}"
    st.caption(f"Of A: {plain(prediction.served.title())}. Research use only, not a medical device.")

    # Files are made on download, with the appearance that the user has chosen since.
    def overlays() -> bytes:
        return downloads.overlays_zip(study, prediction, st.session_state.get(APPEARANCE_KEY, appearance))

    def view() -> bytes:
        latest = st.session_state.get(APPEARANCE_KEY, appearance)
        return downloads.planes_png(study, prediction, session.position(), latest)

    files: list[tuple[str, str, str, Callable[[], bytes]]] = [
        (
            "Mask",
            f"mask-{stem}{downloads.mask_suffix_of(study)}",
            "application/octet-stream",
            lambda: downloads.mask_file(study, prediction),
        ),
        (
            "lesions.json",
            f"lesions-{stem}.json",
            "application/json",
            lambda: downloads.lesions_json(study, prediction),
        ),
        ("CSV", f"lesions-{stem}.csv", "text/csv", lambda: downloads.lesions_csv(prediction)),
        ("Overlays of all lesions (ZIP of PNG)", f"overlays-{stem}.zip", "application/zip", overlays),
        ("This view (PNG)", f"view-{stem}.png", "image/png", view),
    ]
    with st.container(horizontal=True):
        for title, name, kind, content in files:
            st.download_button(title, content, name, kind, on_click="ignore")


@st.cache_data(show_spinner=False, max_entries=32)
def _agreement(
    _first: StudyPrediction, _second: StudyPrediction, spacing: Spacing, scene_key: tuple[object, ...]
) -> Agreement:
    return agreement(_first.mask, _second.mask, spacing)


@st.cache_data(show_spinner="Scoring", max_entries=32)
def _score(_study: Study, _prediction: StudyPrediction, digest: str, key: tuple[str, int]) -> PatientScores:
    geometry = _study.geometry
    return score_patient(np.asarray(_study.truth), _prediction.mask, geometry.spacing, geometry.spacing_known)


@st.cache_data(show_spinner="Querying MLflow", max_entries=16, ttl=60)
def _card(model: str, number: int) -> tuple[str, Version]:
    """Return the model card of a version in Markdown, and its entry.

    Raises:
        MetsegError: there is no registry, it does not respond, or it lacks the version.
    """
    settings = Settings.from_environment()
    path = settings.tracking_uri.removeprefix("sqlite:///")
    if path != settings.tracking_uri and not Path(path).exists():
        raise MetsegError(
            "There is no MLflow registry in this workspace: start the viewer where `metseg run` was started, or set "
            "MLFLOW_TRACKING_URI."
        )
    from metseg.tracking import mlflow_runs

    client = mlflow_runs.client(settings)
    entry = version(client, model, number)
    if entry is None:
        raise MetsegError(f"The registry has no version {number} of {model}.")
    return str(client.get_model_version(model, str(number)).description or ""), entry
