"""One server of two small versions as metseg exports them, and heads with a lesion to ask it with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from metseg.serving.client import SegmentationClient
from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.model_server import ModelServer
from tests.serving.callers.models import CHANNELS, MODEL


@pytest.fixture(scope="session")
def address(published: Path) -> Iterator[str]:
    """`host:port` of a server that holds them."""
    options = ServerOptions(port=0, model_config_file=str(published), allow_version_labels_for_unavailable_models=True)
    with ModelServer(options) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def client(address: str) -> Iterator[SegmentationClient]:
    with SegmentationClient(address, MODEL, label="stable", timeout=60) as opened:
        yield opened


def head(slices: int = 6, size: int = 48, seed: int = 0) -> NDArray[np.int16]:
    """A dark ground, a grey disc, and one bright lesion in 2 slices; `(slices, size, size)`."""
    rows, columns = np.mgrid[:size, :size]
    centre = size // 2
    disc = (rows - centre) ** 2 + (columns - centre) ** 2 < (size // 3) ** 2
    image = np.where(disc, 300, 0) + np.random.default_rng(seed).integers(0, 40, (slices, size, size))
    image[2:4, centre - 6 : centre, centre : centre + 7] += 500
    return image.astype(np.int16)


AFFINE = np.array([[-0.9, 0, 0, 20], [0, -0.8, 0, 30], [0, 0, 3.0, -12], [0, 0, 0, 1]])
"""Voxel → RAS+: columns to the left, rows to the back, 3 mm slices: the canonical orientation of a scanner's file."""


def write_head(folder: Path, case: str = "head", slices: int = 6, channels: Any = CHANNELS) -> list[Path]:
    """NIfTI files of one case, one a channel."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, channel in enumerate(channels):
        voxels = np.transpose(head(slices, seed=number), (2, 1, 0))
        paths.append(folder / f"{case}-{channel}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), paths[-1])
    return paths
