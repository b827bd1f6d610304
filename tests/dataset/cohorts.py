"""Small cohorts on disk, in each layout, with known voxels."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def picture(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Noise that no other seed repeats."""
    return np.random.default_rng(seed).integers(1, 255, shape, dtype=np.uint8)


def blob(height: int, width: int, value: int = 255) -> NDArray[np.uint8]:
    """A mask with a rectangle of 2 × 3 pixels."""
    mask = np.zeros((height, width), np.uint8)
    mask[2:4, 3:6] = value
    return mask


def brats_case(
    root: Path,
    case: str,
    channels: tuple[str, ...] = ("t1n", "t2f", "t1c"),
    *,
    seed: int = 0,
    shape: tuple[int, int, int] = (9, 8, 6),
    affine: NDArray[np.float64] | None = None,
    suffix: str = ".nii.gz",
) -> NDArray[np.uint8]:
    """Write one case; labels 1 to 4 stand in four voxels of slice 3, counted from the feet. Gives the labels."""
    folder = root / case
    folder.mkdir(parents=True)
    grid = np.diag([-1.0, -1.0, 2.0, 1.0]) if affine is None else affine
    for place, channel in enumerate(channels):
        data = picture(100 * seed + place, shape).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(data, grid), folder / f"{case}-{channel}{suffix}")
    labels = np.zeros(shape, np.uint8)
    labels[1:5, 2, 3] = (1, 2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(labels, grid), folder / f"{case}-seg{suffix}")
    return labels


def brats_cohort(root: Path, patients: int = 4) -> Path:
    """Patients 1, 2, …, one timepoint each."""
    for number in range(1, patients + 1):
        brats_case(root, f"PHANTOM-MET-{number:05d}-000", seed=number)
    return root


def tcga_patient(root: Path, name: str, slices: tuple[int, ...], seed: int = 0, size: int = 10) -> None:
    """Write one patient; the first slice has no tumour. Pixel (0, 0, 0) of each slice is its number."""
    folder = root / name
    folder.mkdir(parents=True)
    for number in slices:
        image = picture(1000 * seed + number, (size, size, 3))
        image[0, 0, 0] = number
        Image.fromarray(image).save(folder / f"{name}_{number}.tif")
        mask = blob(size, size) * np.uint8(number != slices[0])
        Image.fromarray(mask).save(folder / f"{name}_{number}_mask.tif")


def picture_pair(
    root: Path, name: str, *, seed: int = 0, suffix: str = ".png", value: int = 255, size: tuple[int, int] = (10, 12)
) -> None:
    """Write `images/<name>` and `masks/<name>`."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, size)).save(root / "images" / f"{name}{suffix}")
    Image.fromarray(blob(*size, value)).save(root / "masks" / f"{name}{suffix}")
