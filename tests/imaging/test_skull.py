"""Stripped heads are told from heads with skull and scalp, on real and on made images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metseg.imaging.io import read_image
from metseg.imaging.skull import looks_skull_stripped
from metseg.phantom import generate_cohort


def made_head(scalp: bool, noise: float = 0.0, size: int = 96) -> np.ndarray:
    """A brain of 100 in a ball, with 6 pixels of bone (10) and 4 of scalp (150) around it if wanted."""
    z, y, x = np.mgrid[-4:5, :size, :size]
    radius = np.sqrt((y - size / 2) ** 2 + (x - size / 2) ** 2 + z**2)
    head = np.where(radius < 30, 100.0, 0.0)
    if scalp:
        head = np.select([radius < 30, radius < 36, radius < 40], [100.0, 10.0, 150.0], 0.0)
    head += np.abs(np.random.default_rng(0).normal(0, noise, head.shape)) if noise else 0
    return head[..., None]


def tcga(folder: Path) -> np.ndarray:
    files = [path for path in folder.glob("*.tif") if "mask" not in path.name]
    return np.stack([np.array(Image.open(path)) for path in sorted(files, key=lambda p: int(p.stem.split("_")[-1]))])


def test_made_heads_are_told_apart() -> None:
    assert looks_skull_stripped(made_head(scalp=False))
    assert not looks_skull_stripped(made_head(scalp=True))
    assert not looks_skull_stripped(made_head(scalp=True, noise=4.0))


def test_a_head_in_noise_was_not_stripped() -> None:
    assert not looks_skull_stripped(made_head(scalp=False, noise=6.0))


@pytest.mark.parametrize("shape", [(1, 64, 64, 1), (3, 5, 5, 2)])
def test_nothing_can_be_told_of_an_empty_or_a_tiny_image(shape: tuple[int, ...]) -> None:
    assert not looks_skull_stripped(np.zeros(shape))
    assert not looks_skull_stripped(np.full(shape, np.nan))


def test_phantoms_wear_their_skulls(tmp_path: Path) -> None:
    generate_cohort(tmp_path, patients=3)
    cases = [path for path in sorted(tmp_path.iterdir()) if path.is_dir()]
    for case in cases:
        names = [f"{case.name}-{channel}.nii" for channel in ("t1n", "t2f", "t1c")]
        image = np.stack([read_image(case / name).array for name in names], axis=-1)
        assert not looks_skull_stripped(image), case.name


def test_a_real_stripped_head_looks_so_in_every_channel(shared_data: Path) -> None:
    for path in sorted((shared_data / "bratsmet-nifti-unlabelled").glob("*.nii.gz")):
        assert looks_skull_stripped(read_image(path).array[..., None]), path.name


def test_real_stripped_pictures_look_so(shared_data: Path) -> None:
    for path in sorted((shared_data / "bratsmet-t2w-jpg" / "images").iterdir()):
        assert looks_skull_stripped(np.array(Image.open(path).convert("L"))[None, ..., None]), path.name


def test_real_heads_with_skull_do_not(shared_data: Path) -> None:
    folders = [path for path in sorted((shared_data / "tcga-lgg").iterdir()) if path.is_dir()][::2]
    assert len(folders) == 9
    assert [folder.name for folder in folders if looks_skull_stripped(tcga(folder))] == []
