"""The operating point of a trained network, chosen on validation patients in original geometry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from metseg.dataset.manifest import Manifest
from metseg.dataset.records import RecordFile
from metseg.imaging.fit import unfit_slices
from metseg.imaging.specification import PreprocessingSpecification
from metseg.imaging.volume import Case, load_mask
from metseg.progress import track
from metseg.scoring.operating_point import OperatingPoint, choose
from metseg.training.batches import all_slices
from metseg.training.loop import predict


def choose_on_validation(
    network: keras.Model,
    cohort: Path,
    records: Path,
    manifest: Manifest,
    specification: PreprocessingSpecification,
) -> OperatingPoint:
    """Threshold and minimum lesion volume that serve validation patients best; test patients are not touched."""

    def predictions() -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_], tuple[float, float, float]]]:
        for entry in track(manifest.cases_in("validation"), "choosing the operating point"):
            folder = cohort / "cases" / entry.case
            record = RecordFile(records / "validation" / f"{entry.case}.tfrecord")
            square = predict(network, all_slices(record, specification.context_slices))
            truth = np.asarray(load_mask(folder)) > 0
            probability = unfit_slices(square, truth.shape[1], truth.shape[2])
            yield probability, truth, Case.read(folder).geometry.spacing

    return choose(predictions(), patients=[entry.patient for entry in manifest.cases_in("validation")])
