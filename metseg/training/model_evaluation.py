"""Score a model on test patients by OpenCV with Keras, and check the served graph."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from metseg.dataset.image_statistics import head_hulls
from metseg.dataset.manifest import CaseEntry, Manifest
from metseg.imaging.case import load_image, load_mask, read_case
from metseg.imaging.preprocessing.reference_preprocessing import preprocess, stack_context
from metseg.imaging.preprocessing.resize import unfit_slices
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import apply_window, volume_window
from metseg.progress import track
from metseg.saved_model_digest import saved_model_digest
from metseg.scoring.calibration import VoxelTally
from metseg.scoring.flip_gain import FlippedCase, compare_flips
from metseg.scoring.network_evaluation import ServedCheck, ValidationScores
from metseg.scoring.operating_point import OperatingPoint, apply
from metseg.scoring.patient_scores import HEADLINE, PatientScores, mean_score, per_patient, score_patient
from metseg.scoring.threshold_baseline import best_threshold, threshold_dice
from metseg.training.export import saved_model_of
from metseg.training.flipped_prediction import flipped_average
from metseg.training.golden_requests import golden_requests
from metseg.training.network_building import predict
from metseg.training.result_records import EVALUATION, EvaluationRecord, TrainingRecord

logger = logging.getLogger(__name__)

Volume = NDArray[np.float32]

SERVED_CASES = 2
"""Test cases for which the served graph is compared, in addition to the golden requests."""

MEAN_SCORES = (*HEADLINE, "lesion_f1_all", "small_lesion_sensitivity")
"""Scores whose mean over test patients is reported."""


def load_network(model: Path) -> keras.Model:
    """Load the trained network of an exported model, without unpickling or loading code."""
    import models.blocks  # noqa: F401  registers the layers that the file names

    network = keras.saving.load_model(model / "model.keras", compile=False, safe_mode=True)
    network.compile(jit_compile=False)
    return network


def independent_probability(
    network: keras.Model, image: NDArray[np.generic], specification: PreprocessingSpecification
) -> Volume:
    """Return the probability `(slices, height, width)` of a raw volume by the NumPy and OpenCV path."""
    slices = stack_context(preprocess(image, specification), specification.context_slices)
    return unfit_slices(predict(network, slices), image.shape[1], image.shape[2])


class _ServedGraph:
    """The served graph of a model, and its agreement with the independent path."""

    def __init__(self, model: Path, threshold: float) -> None:
        self._loaded = tf.saved_model.load(str(saved_model_of(model)))
        self.threshold = np.asarray(threshold, dtype=np.float32)
        self.checks: list[ServedCheck] = []

    def compare(self, image: Volume, probability: Volume) -> None:
        response = self._loaded.signatures["serving_default"](image=tf.constant(image[None]))
        difference = float(np.abs(response["probability"].numpy()[0] - probability).max())
        same = np.array_equal(response["mask"].numpy()[0], (probability >= self.threshold).astype(np.uint8))
        self.checks.append(ServedCheck(difference, same))

    def agreement(self) -> ServedCheck:
        """Return the largest difference, and whether all masks are identical."""
        largest = max(check.max_abs_difference for check in self.checks)
        return ServedCheck(largest, all(check.masks_identical for check in self.checks))


def _overlay(path: Path, image: NDArray[np.uint8], truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> None:
    """Store the slices with most lesion, true or predicted, and with most error."""
    most_lesion = int(np.argmax(truth.sum(axis=(1, 2)) * 2 + predicted.sum(axis=(1, 2))))
    wrong = (truth ^ predicted).sum(axis=(1, 2))
    places = [most_lesion, int(np.argmax(wrong)) if wrong.any() else most_lesion]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path, image=image[places], truth=truth[places], prediction=predicted[places], places=places, slices=len(image)
    )


@dataclass
class _Tallies:
    """Tallies over the test cases, in addition to their scores.

    Attributes:
        voxels: probabilities inside the head.
        thresholded: Dice of every single intensity threshold on each case.
        flips: scores of each case without and with test-time flips, if requested.
    """

    voxels: VoxelTally = field(default_factory=VoxelTally)
    thresholded: list[NDArray[np.float64]] = field(default_factory=list)
    flips: list[FlippedCase] | None = None


def _score_case(
    cohort: Path,
    entry: CaseEntry,
    network: keras.Model,
    specification: PreprocessingSpecification,
    point: OperatingPoint,
    out: Path,
    tallies: _Tallies,
) -> tuple[PatientScores, Volume, Volume, NDArray[np.bool_]]:
    """Return scores, raw image, probability and truth of one case; add to the tallies."""
    folder = cohort / "cases" / entry.case
    geometry = read_case(folder).geometry
    raw = np.asarray(load_image(folder), dtype=np.float32)
    truth = np.asarray(load_mask(folder)) > 0
    slices = stack_context(preprocess(raw, specification), specification.context_slices)

    def judge(square: NDArray[np.float32]) -> tuple[Volume, NDArray[np.bool_], PatientScores]:
        """Return probability in the original geometry, mask and scores of a prediction."""
        probability = unfit_slices(square, raw.shape[1], raw.shape[2])
        mask = apply(probability, point.threshold, point.minimum_volume_mm3, geometry.spacing)
        return probability, mask, score_patient(truth, mask, geometry.spacing, geometry.spacing_known)

    probability, predicted, scores = judge(predict(network, slices))
    windowed = apply_window(raw, volume_window(raw, specification))
    _overlay(out / "overlays" / f"{entry.case}.npz", windowed, truth, predicted)
    tallies.voxels.add(entry.patient, probability, predicted, truth, head_hulls(raw))
    tallies.thresholded.append(threshold_dice(windowed, truth))
    if tallies.flips is not None:
        average, seconds = flipped_average(network, slices)
        tallies.flips.append((entry.patient, scores, judge(average)[2], seconds))
    return scores, raw, probability, truth


def _store_golden(
    network: keras.Model, specification: PreprocessingSpecification, served: _ServedGraph, path: Path
) -> None:
    """Store requests made from phantoms with the independent path's predictions; compare the served graph's."""
    golden: dict[str, NDArray[Any]] = {"threshold": served.threshold}
    for number, request in enumerate(golden_requests(specification.channels)):
        response = independent_probability(network, request, specification)
        served.compare(request, response)
        golden[f"image_{number}"], golden[f"probability_{number}"] = request, response
    np.savez_compressed(path, **golden)  # type: ignore[arg-type]


def evaluate_model(
    cohort: Path,
    model: Path,
    training: TrainingRecord,
    out: Path,
    *,
    test_time_flips: bool = False,
    version: int | None = None,
    training_record: str = "",
) -> EvaluationRecord:
    """Score a model on test patients; write the inputs of gate, report and promotion.

    Args:
        cohort: output of ingest.
        model: exported model (`model.keras`, `tf2model/`, `preprocessing.json`).
        training: record of its training run.
        out: folder for `evaluation.json`, `overlays/<case>.npz`, `golden.npz` (requests made from phantoms with the
            independent path's predictions) and `reference.npz` (the same for one test case).
        test_time_flips: whether averaging over flipped slices is tried too; nothing else changes.
        version: number in the registry, of the current champion.
        training_record: source of the patients in `training`, of the current champion.

    Returns:
        The record in `evaluation.json`.
    """
    manifest = Manifest.read(cohort / "manifest.json")
    specification = PreprocessingSpecification.read(model / "preprocessing.json")
    network = load_network(model)
    point, architecture = training.operating_point, training.configuration.architecture
    served = _ServedGraph(model, point.threshold)
    out.mkdir(parents=True, exist_ok=True)

    _store_golden(network, specification, served, out / "golden.npz")
    scored: list[tuple[str, PatientScores]] = []
    tallies = _Tallies(flips=[] if test_time_flips else None)
    for entry in track(manifest.cases_in("test"), f"scoring test patients, {architecture}"):
        scores, raw, probability, truth = _score_case(cohort, entry, network, specification, point, out, tallies)
        if len(scored) < SERVED_CASES:
            served.compare(raw, probability)
        if not scored:
            np.savez_compressed(out / "reference.npz", case=entry.case, image=raw, probability=probability, truth=truth)
        scored.append((entry.patient, scores))
    patients, agreement = per_patient(scored), served.agreement()
    record = EvaluationRecord(
        architecture=architecture,
        channels=specification.channels,
        labels=training.description.labels,
        validation=ValidationScores(point.dice, point.lesion_f1),
        patients=patients,
        training_patients=(*training.training_patients, *training.validation_patients),
        served_check=agreement,
        training_record=training_record,
        training=training,
        version=version,
        mean_scores={name: mean_score(patients, name) for name in MEAN_SCORES},
        savedmodel_sha256=saved_model_digest(saved_model_of(model)),
        served_volumes_compared=len(served.checks),
        threshold_baseline=best_threshold(tallies.thresholded, specification.channels),
        voxels_in_head=tallies.voxels.scores(),
        test_time_flips=compare_flips(tallies.flips) if tallies.flips is not None else None,
    )
    record.write(out / EVALUATION)
    logger.info(
        "%s on %d test patients: Dice %.3f, lesion F1 %.3f; served graph differs by %.1e",
        architecture,
        len(patients),
        record.mean_scores["dice"],
        record.mean_scores["lesion_f1"],
        agreement.max_abs_difference,
    )
    return record
