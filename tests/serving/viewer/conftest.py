"""A study whose lesions are known, and a server with two small models that mark it differently."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from tests.serving.conftest import MODEL, Running, run_server
from tests.serving.model_config_files import write_model_config

CHANNELS = ("t1n", "t2f", "t1c")
SHAPE = (20, 30, 24)
SPACING = (4.0, 1.5, 1.0)
THRESHOLDS = {1: 0.5, 2: 0.8}
ARCHITECTURES = {1: "nested_unet", 2: "attention_unet"}

BRIGHT = (slice(5, 8), slice(10, 14), slice(6, 10))
"""A lesion of 48 voxels, 288 mm³, that both models mark."""
FAINT = (slice(14, 16), slice(18, 21), slice(15, 18))
"""A lesion of 18 voxels, 108 mm³, that only version 1 marks."""
SPECK = (10, 5, 12)
"""One voxel, 6 mm³: under the minimum volume of 10 mm³."""


def known_image() -> NDArray[np.int16]:
    """`(slices, height, width, channels)`: tissue at 100, lesions in t1c alone."""
    image = np.zeros((*SHAPE, len(CHANNELS)), np.int16)
    image[2:18, 3:27, 3:21] = 100
    t1c = image[..., CHANNELS.index("t1c")]
    t1c[BRIGHT], t1c[FAINT], t1c[SPECK] = 900, 600, 950
    return image


def known_segmentation() -> NDArray[np.uint8]:
    """The bright lesion as core (1) and enhancing (3), and oedema (2), which is no lesion, elsewhere."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[BRIGHT] = 3
    labels[6, 11:13, 7:9] = 1
    labels[12, 20:24, 10:14] = 2
    return labels


def write_nifti(path: Path, canonical: NDArray[Any]) -> Path:
    """Write `(slices, height, width)` as a file whose first axis runs to the patient's left, its second to the back."""
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
    affine[:3, 3] = (12.0, 20.0, -30.0)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(canonical.transpose(2, 1, 0)), affine), path)
    return path


@pytest.fixture(scope="session")
def study_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The study's files by channel, and `seg`; a person's name is in theirs."""
    folder = tmp_path_factory.mktemp("study")
    image = known_image()
    files = {
        name: write_nifti(folder / f"Doe_Jane-{name}.nii.gz", image[..., index]) for index, name in enumerate(CHANNELS)
    }
    return {**files, "seg": write_nifti(folder / "Doe_Jane-seg.nii.gz", known_segmentation())}


def _export(folder: Path, version: int) -> None:
    """A model whose probability is t1c over 1000."""
    import tensorflow as tf

    module = tf.Module()
    threshold = THRESHOLDS[version]
    said = {
        "architecture": ARCHITECTURES[version],
        "channels": CHANNELS,
        "labels": ["1", "3"],
        "threshold": threshold,
        "minimum_volume_mm3": 10.0,
        "preprocessing": asdict(PreprocessingSpecification(channels=CHANNELS)),
    }

    @tf.function(input_signature=[tf.TensorSpec([None] * 4 + [3], tf.float32, name="image")])
    def predict(image: Any) -> dict[str, Any]:
        probability = tf.clip_by_value(image[..., 2] / 1000.0, 0.0, 1.0)
        return {"probability": probability, "mask": tf.cast(probability >= threshold, tf.uint8)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="request")])
    def describe(request: Any) -> dict[str, Any]:
        return {"specification": tf.fill(tf.shape(request), json.dumps(said))}

    module.predict, module.describe = predict, describe
    tf.saved_model.save(module, str(folder), signatures={"serving_default": predict, "describe": describe})


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Version 1 is `stable`, version 2 `canary`."""
    base_path = tmp_path_factory.mktemp("viewer-base") / MODEL
    for version in (1, 2):
        _export(base_path / str(version), version)
    config_file = base_path.parent / "models.config"
    write_model_config(config_file, MODEL, base_path, [1, 2], {"stable": 1, "canary": 2})
    yield from run_server(
        base_path, model_config_file=str(config_file), allow_version_labels_for_unavailable_models=True
    )


@pytest.fixture(scope="session")
def one_label(two_models: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Version 1 alone, and no `canary`."""
    base_path = tmp_path_factory.mktemp("viewer-single") / MODEL
    shutil.copytree(two_models.base_path / "1", base_path / "1")
    config_file = base_path.parent / "models.config"
    write_model_config(config_file, MODEL, base_path, [1], {"stable": 1})
    yield from run_server(
        base_path, model_config_file=str(config_file), allow_version_labels_for_unavailable_models=True
    )
