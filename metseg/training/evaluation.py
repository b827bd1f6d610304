"""Scoring a trained model on test patients by two paths that share no code: OpenCV + Keras, and the served graph."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from metseg.dataset.manifest import CaseEntry, Manifest
from metseg.files import write_json
from metseg.imaging.fit import unfit_slices
from metseg.imaging.preprocessing import preprocess, stack_context
from metseg.imaging.specification import PreprocessingSpecification
from metseg.imaging.volume import Case, load_image, load_mask
from metseg.imaging.window import apply_window, volume_window
from metseg.progress import track
from metseg.scoring.baseline import best_threshold
from metseg.scoring.evaluation import Evaluation, ServedCheck, ValidationScores
from metseg.scoring.operating_point import apply
from metseg.scoring.patient import PatientScores, mean_score, per_patient, score_patient
from metseg.serving.publish import saved_model_digest
from metseg.training.export import saved_model_of
from metseg.training.loop import predict
from metseg.training.phantom_requests import golden_requests

logger = logging.getLogger(__name__)

Volume = NDArray[np.float32]

SERVED_CASES = 2
"""Test cases whose answer by the served graph is compared, beside the golden requests."""

MEAN_SCORES = (
    "dice",
    "iou",
    "sensitivity",
    "precision",
    "lesion_f1",
    "lesion_f1_all",
    "lesion_sensitivity",
    "small_lesion_sensitivity",
    "lesion_wise_dice",
    "false_positives",
    "hd95_mm",
    "surface_dice",
    "lesion_wise_hd95_mm",
    "volume_error_mm3",
)
"""Scores whose mean over test patients is reported."""


def load_network(model: Path) -> keras.Model:
    """The trained network of an exported model; nothing is unpickled and no code is loaded from the file."""
    import models.blocks  # noqa: F401  registers the layers that the file names

    network = keras.saving.load_model(model / "model.keras", compile=False, safe_mode=True)
    network.compile(jit_compile=False)
    return network


def independent_probability(
    network: keras.Model, image: NDArray[np.generic], specification: PreprocessingSpecification
) -> Volume:
    """Probability `(slices, height, width)` of a raw volume by the NumPy and OpenCV path."""
    slices = stack_context(preprocess(image, specification), specification.context_slices)
    return unfit_slices(predict(network, slices), image.shape[1], image.shape[2])


class _ServedCheck:
    """The largest disagreement between the served graph and the independent path so far."""

    def __init__(self, model: Path, threshold: float) -> None:
        self._loaded = tf.saved_model.load(str(saved_model_of(model)))
        self._signature = self._loaded.signatures["serving_default"]
        self.threshold = np.float32(threshold)
        self.max_abs_difference = 0.0
        self.masks_identical = True
        self.volumes = 0

    def compare(self, image: Volume, probability: Volume) -> None:
        answer = self._signature(image=tf.constant(image[None]))
        difference = np.abs(answer["probability"].numpy()[0] - probability).max()
        same = np.array_equal(answer["mask"].numpy()[0], (probability >= self.threshold).astype(np.uint8))
        self.max_abs_difference = max(self.max_abs_difference, float(difference))
        self.masks_identical = self.masks_identical and same
        self.volumes += 1


def _overlay(folder: Path, image: NDArray[np.uint8], truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> None:
    """Keep the slice with most lesion, true or predicted, for the report."""
    place = int(np.argmax(truth.sum(axis=(1, 2)) * 2 + predicted.sum(axis=(1, 2))))
    folder.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder, image=image[place], truth=truth[place], prediction=predicted[place], slice=place)


def _score_case(
    cohort: Path,
    entry: CaseEntry,
    network: keras.Model,
    specification: PreprocessingSpecification,
    training: dict[str, Any],
    out: Path,
) -> tuple[PatientScores, Volume, Volume, NDArray[np.uint8], NDArray[np.bool_]]:
    """Scores of one case, its raw image, its probability, its windowed image and its truth."""
    folder = cohort / "cases" / entry.case
    geometry = Case.read(folder).geometry
    raw = np.asarray(load_image(folder), dtype=np.float32)
    truth = np.asarray(load_mask(folder)) > 0
    probability = independent_probability(network, raw, specification)
    point = training["operating_point"]
    kept = apply(probability, point["threshold"], point["minimum_volume_mm3"], geometry.spacing)
    scores = score_patient(truth, kept, geometry.spacing, geometry.spacing_known)
    windowed = apply_window(raw, volume_window(raw, specification))
    _overlay(out / "overlays" / f"{entry.case}.npz", windowed, truth, kept)
    return scores, raw, probability, windowed, truth


def evaluate_model(cohort: Path, model: Path, training: dict[str, Any], out: Path) -> None:
    """Score a model on the test patients of a cohort; write what the gate, the report and promotion need.

    Args:
        cohort: output of ingest.
        model: exported model (`model.keras`, `tf2model/`, `preprocessing.json`).
        training: content of `training.json`.
        out: folder for `evaluation.json`, `overlays/<case>.npz`, `golden.npz` (requests made from phantoms with the
            independent path's answers) and `reference.npz` (the same for one test case).
    """
    manifest = Manifest.read(cohort / "manifest.json")
    specification = PreprocessingSpecification.read(model / "preprocessing.json")
    network = load_network(model)
    point = training["operating_point"]
    served = _ServedCheck(model, point["threshold"])
    out.mkdir(parents=True, exist_ok=True)

    golden: dict[str, NDArray[Any]] = {"threshold": np.asarray(point["threshold"], dtype=np.float32)}
    for number, request in enumerate(golden_requests(specification.channels)):
        answer = independent_probability(network, request, specification)
        served.compare(request, answer)
        golden[f"image_{number}"], golden[f"probability_{number}"] = request, answer
    np.savez_compressed(out / "golden.npz", **golden)  # type: ignore[arg-type]

    scored: list[tuple[str, PatientScores]] = []
    thresholded = []
    architecture = training["configuration"]["architecture"]
    for entry in track(manifest.cases_in("test"), f"scoring test patients, {architecture}"):
        scores, raw, probability, windowed, truth = _score_case(cohort, entry, network, specification, training, out)
        if len(scored) < SERVED_CASES:
            served.compare(raw, probability)
        if not scored:
            np.savez_compressed(out / "reference.npz", case=entry.case, image=raw, probability=probability, truth=truth)
        scored.append((entry.patient, scores))
        thresholded.append((windowed, truth))
    patients = per_patient(scored)
    mean = {name: mean_score(patients, name) for name in MEAN_SCORES}
    evaluation = Evaluation(
        architecture=architecture,
        channels=specification.channels,
        labels=tuple(training["description"]["labels"]),
        validation=ValidationScores(point["dice"], point["lesion_f1"]),
        patients=patients,
        training_patients=(*training["training_patients"], *training["validation_patients"]),
        served_check=ServedCheck(served.max_abs_difference, served.masks_identical),
        training_record=training.get("training_record", ""),
    )
    write_json(
        out / "evaluation.json",
        {
            **evaluation.to_dict(),
            "mean": mean,
            "run": training["run"],
            "version": training.get("version"),
            "parameters": training["parameters"],
            "operating_point": {name: value for name, value in point.items() if name != "curve"},
            "history": training["history"],
            "training_seconds": training["seconds"],
            "configuration": training["configuration"],
            "served_volumes_compared": served.volumes,
            "savedmodel.sha256": saved_model_digest(saved_model_of(model)),
            "threshold_baseline": asdict(best_threshold(thresholded, specification.channels)),
            "description": training["description"],
        },
    )
    logger.info(
        "%s on %d test patients: Dice %.3f, lesion F1 %.3f; served graph differs by %.1e",
        architecture,
        len(patients),
        mean["dice"],
        mean["lesion_f1"],
        served.max_abs_difference,
    )
