"""Scores and cost of a network's heads on validation patients, in original geometry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

import models
from metseg.dataset.manifest import Manifest
from metseg.dataset.slice_files import RecordFile
from metseg.imaging.case import load_mask, read_case
from metseg.imaging.preprocessing.resize import unfit_slices
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.progress import track
from metseg.scoring.operating_point import OperatingPoint, choose, score_settings
from metseg.training.batches import all_slices
from metseg.training.network_building import INFERENCE_BLOCK, inference_network, sub_networks
from metseg.training.result_records import HeadScores


@dataclass(frozen=True)
class JudgedHeads:
    """The networks that can be exported from a trained one.

    Attributes:
        heads: each network, from the smallest on.
        exported: the one that the run exports.
        point: operating point of the exported one.
    """

    heads: tuple[HeadScores, ...]
    exported: HeadScores
    point: OperatingPoint


def judge_heads(
    network: keras.Model,
    cohort: Path,
    records: Path,
    manifest: Manifest,
    specification: PreprocessingSpecification,
    inference_head: str,
) -> JudgedHeads:
    """Judge each exportable network of a trained one at its best operating point.

    Validation patients go through the network once for all heads; test patients are not touched.

    Args:
        network: from `train_heads`.
        cohort: output of ingest.
        records: output of preprocess.
        manifest: of the cohort.
        specification: the frozen preprocessing.
        inference_head: head to export; `last` is that of the largest level, and a single head is exported in any case.

    Returns:
        The sub-networks and the average of all heads, or the whole network if it has one head.

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
        predictions = together.predict(slices, batch_size=INFERENCE_BLOCK, verbose=0)
        truth = np.asarray(load_mask(folder)) > 0
        spacing = read_case(folder).geometry.spacing
        for name, square in predictions.items():
            probability = unfit_slices(square[..., 0], truth.shape[1], truth.shape[2])
            grids[name].setdefault(entry.patient, []).append(score_settings(probability, truth, spacing))
    exported = inference_head if inference_head in single else (levels or ["last"])[-1]
    points = {name: choose(cases) for name, cases in grids.items()}
    heads = {}
    for name, point in points.items():
        cost = models.cost(single[name], specification.image_size, specification.image_size)
        heads[name] = HeadScores(
            inference_head=name,
            parameters=cost.parameters,
            multiply_accumulates=cost.multiply_accumulates,
            threshold=point.threshold,
            minimum_volume_mm3=point.minimum_volume_mm3,
            dice=point.dice,
            lesion_f1=point.lesion_f1,
            exported=name == exported,
        )
    return JudgedHeads(tuple(heads.values()), heads[exported], points[exported])
