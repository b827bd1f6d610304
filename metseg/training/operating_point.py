"""What a trained network reaches on validation patients in original geometry, and at what cost, head by head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

import models
from metseg.dataset.manifest import Manifest
from metseg.dataset.record_files import RecordFile
from metseg.imaging.case import load_mask, read_case
from metseg.imaging.preprocessing.resize import unfit_slices
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.progress import track
from metseg.scoring.operating_point import OperatingPoint, choose, score_settings
from metseg.training.batches import all_slices
from metseg.training.network import INFERENCE_BLOCK, inference_network, sub_networks
from metseg.training.records import HeadScores


@dataclass(frozen=True)
class JudgedHead:
    """One network that can be exported from a trained one.

    Attributes:
        inference_head: the parameter's value that exports it: `L1`, `L2`, …, `average`; `last` of a single head.
        parameters: its weights.
        multiply_accumulates: of its convolutions, for one slice of the preprocessing's size.
        point: its own threshold and minimum lesion volume, with its scores on validation patients.
    """

    inference_head: str
    parameters: int
    multiply_accumulates: int
    point: OperatingPoint

    def scores(self, exported: bool) -> HeadScores:
        """Return the record of the head, without the settings that were tried."""
        point = self.point
        return HeadScores(
            inference_head=self.inference_head,
            parameters=self.parameters,
            multiply_accumulates=self.multiply_accumulates,
            threshold=point.threshold,
            minimum_volume_mm3=point.minimum_volume_mm3,
            dice=point.dice,
            lesion_f1=point.lesion_f1,
            exported=exported,
        )


def judge_heads(
    network: keras.Model,
    cohort: Path,
    records: Path,
    manifest: Manifest,
    specification: PreprocessingSpecification,
) -> list[JudgedHead]:
    """Judge every network that can be exported from a trained one, each at the operating point that serves it best.

    Validation patients go through the network once for all heads; test patients are not touched.

    Args:
        network: what `train_heads` gave.
        cohort: output of ingest.
        records: output of preprocess.
        manifest: of the cohort.
        specification: the frozen preprocessing.

    Returns:
        The sub-networks from the smallest on and the average of all heads, or the whole network where it has one head.

    Raises:
        DataError: there is no validation patient.
    """
    levels = sub_networks(network)
    single = {name: inference_network(network, name) for name in ([*levels, "average"] if levels else ["last"])}
    together = keras.Model(network.inputs[0], {name: choice.outputs[0] for name, choice in single.items()})
    # XLA contracts floating-point operations: predictions would differ from those of the served graph.
    together.compile(jit_compile=False)
    grids: dict[str, dict[str, list[NDArray[np.float64]]]] = {name: {} for name in single}
    for entry in track(manifest.cases_in("validation"), "choosing the operating point"):
        folder = cohort / "cases" / entry.case
        record = RecordFile(records / "validation" / f"{entry.case}.npy")
        slices = all_slices(record, specification.context_slices)
        answers = together.predict(slices, batch_size=INFERENCE_BLOCK, verbose=0)
        truth = np.asarray(load_mask(folder)) > 0
        spacing = read_case(folder).geometry.spacing
        for name, square in answers.items():
            probability = unfit_slices(square[..., 0], truth.shape[1], truth.shape[2])
            grids[name].setdefault(entry.patient, []).append(score_settings(probability, truth, spacing))
    side = specification.image_size
    costs = {name: models.cost(choice, side, side) for name, choice in single.items()}
    return [
        JudgedHead(name, costs[name].parameters, costs[name].multiply_accumulates, choose(grids[name]))
        for name in single
    ]


def exported_head(heads: list[JudgedHead], inference_head: str) -> JudgedHead:
    """Return the head that `inference_head` exports: for `last` the largest level, for a single head that one."""
    levels = [head for head in heads if head.inference_head != "average"]
    return next((head for head in heads if head.inference_head == inference_head), levels[-1])
