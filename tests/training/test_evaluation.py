"""Evaluate on phantoms: what test-time flips do and leave alone, and how the served probabilities are calibrated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from metseg.dataset.image_statistics import head_hulls
from metseg.dataset.ingest import ingest
from metseg.dataset.manifest import Manifest
from metseg.files import read_json
from metseg.imaging.case import load_image, load_mask
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.scoring.operating_point import OperatingPoint
from metseg.training.configuration import TrainingConfiguration
from metseg.training.export import export, saved_model_of
from metseg.training.flipped_prediction import flipped_average
from metseg.training.model_evaluation import evaluate_model
from metseg.training.network_building import build_network, inference_network, predict
from tests.training_records import training_record

SIDE = 32
SPECIFICATION = PreprocessingSpecification(channels=("t1n", "t2f", "t1c"), image_size=SIDE)


@pytest.fixture(scope="module")
def network():
    """An untrained network: its weights have no symmetry."""
    configuration = TrainingConfiguration("attention_unet", filters=2, depth=2, seed=5)
    return inference_network(build_network(configuration, 3), configuration.inference_head)


@pytest.fixture(scope="module")
def judged(tmp_path_factory, network, phantom_cohort) -> dict[str, Path]:
    """The cohort, the model, and what evaluate left without flips and with them."""
    folder = tmp_path_factory.mktemp("judged")
    phantom_cohort(folder / "heads", 3)
    ingest(str(folder / "heads"), folder / "cohort")
    point = OperatingPoint(0.5, 0.0, lesion_f1=0.2, dice=0.1, patients=1, curve=())
    training = training_record("attention_unet", SPECIFICATION.channels, point=point)
    export(folder / "model", network, SPECIFICATION, 0.5, training.description.served())
    for name, flips in (("plain", False), ("flipped", True)):
        evaluate_model(folder / "cohort", folder / "model", training, folder / name, test_time_flips=flips)
    return {name: folder / name for name in ("cohort", "model", "plain", "flipped")}


def test_the_average_is_that_of_each_slice_shown_four_ways(network):
    slices = np.random.default_rng(0).random((3, SIDE, SIDE, 3)).astype(np.float32)
    expected = np.zeros((3, SIDE, SIDE))
    for place, one in enumerate(slices):
        for rows in (1, -1):
            for columns in (1, -1):
                answer = network(one[::rows, ::columns][None], training=False).numpy()[0, ..., 0]
                expected[place] += answer[::rows, ::columns] / 4
    average, seconds = flipped_average(network, slices)
    np.testing.assert_allclose(average, expected, atol=1e-5)
    assert len(seconds) == 4 and min(seconds) > 0
    assert np.abs(average - predict(network, slices)).max() > 1e-3, "a network without symmetry answers otherwise"


def test_flips_change_nothing_but_their_own_record(judged):
    plain, flipped = (read_json(judged[name] / "evaluation.json") for name in ("plain", "flipped"))
    trial = flipped.pop("test_time_flips")
    assert plain.pop("test_time_flips") is None and plain == flipped
    for name in ("golden.npz", "reference.npz"):
        with np.load(judged["plain"] / name) as one, np.load(judged["flipped"] / name) as other:
            assert one.files == other.files
            for key in one.files:
                np.testing.assert_array_equal(one[key], other[key])
    assert trial["seconds"]["flipped"] > trial["seconds"]["plain"] > 0
    assert trial["scores"]["dice"]["plain"] == pytest.approx(plain["mean_scores"]["dice"])
    assert trial["patients"] == len(plain["patients"])


def test_calibration_is_that_of_the_served_probabilities_inside_the_head(judged):
    """Counted anew from the answers of the served graph."""
    served = tf.saved_model.load(str(saved_model_of(judged["model"]))).signatures["serving_default"]
    probabilities, truths = [], []
    for entry in Manifest.read(judged["cohort"] / "manifest.json").cases_in("test"):
        case = judged["cohort"] / "cases" / entry.case
        image = np.asarray(load_image(case), dtype=np.float32)
        answer = served(image=tf.constant(image[None]))["probability"].numpy()[0]
        inside = head_hulls(image)
        probabilities.append(answer[inside])
        truths.append((load_mask(case) > 0)[inside])
    probability, truth = np.concatenate(probabilities).astype(np.float64), np.concatenate(truths)
    voxels = read_json(judged["plain"] / "evaluation.json")["voxels_in_head"]
    calibration = voxels["calibration"]
    assert (calibration["voxels"], calibration["lesion_voxels"]) == (truth.size, truth.sum())
    place = np.minimum((probability * 10).astype(int), 9)
    error = sum(
        abs(truth[place == index].sum() - probability[place == index].sum()) / truth.size for index in range(10)
    )
    assert calibration["expected_error"] == pytest.approx(error, abs=1e-4)
    # A probability within rounding of the threshold may fall on either side.
    expected = np.histogram2d(truth, probability >= 0.5, bins=2, range=[[0, 1], [0, 1]])[0]
    np.testing.assert_allclose(voxels["confusion"], expected, atol=2)


def test_the_slices_that_are_kept_are_those_of_most_lesion_and_most_error(judged):
    entry = Manifest.read(judged["cohort"] / "manifest.json").cases_in("test")[0]
    truth = load_mask(judged["cohort"] / "cases" / entry.case) > 0
    with np.load(judged["plain"] / "overlays" / f"{entry.case}.npz") as kept:
        assert kept["image"].shape == (2, *truth.shape[1:], 3) and int(kept["slices"]) == len(truth)
        for place, own in zip(kept["places"], kept["truth"], strict=True):
            np.testing.assert_array_equal(own, truth[place])
        wrong = (kept["truth"] ^ kept["prediction"]).sum(axis=(1, 2))
        assert wrong[1] >= wrong[0]


def test_what_evaluate_writes_is_json_without_anything_infinite(judged):
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for name in ("plain", "flipped"):
        json.loads((judged[name] / "evaluation.json").read_text(encoding="utf-8"), parse_constant=refuse)
