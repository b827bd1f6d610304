"""Volumes in any pose: where their voxels lie, their masks written back, and masks brought onto their grids.

Where something lies is asked of nibabel and SimpleITK, which share no code with what is tested.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry, describe_grid, require_same_grid, resample_mask, same_grid
from metseg.imaging.io import mask_suffix, read_image, write_mask_like

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@st.composite
def poses(draw: st.DrawFn) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """A shape `(i, j, k)`, and an affine → RAS: axes permuted and flipped, turned by any angle, anisotropic."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=3, max_size=3)))
    axes = np.zeros((3, 3))
    for column, row in enumerate(draw(st.permutations(range(3)))):
        axes[row, column] = draw(st.sampled_from([1.0, -1.0]))
    angles = draw(st.lists(st.one_of(st.just(0.0), st.floats(-180, 180)), min_size=3, max_size=3))
    spacing = draw(st.lists(st.floats(0.2, 8), min_size=3, max_size=3))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes @ np.diag(spacing)
    affine[:3, 3] = draw(st.lists(st.floats(-300, 300), min_size=3, max_size=3))
    return shape, affine


def write_nifti(path: Path, data: NDArray[np.generic], affine: NDArray[np.float64], by_qform: bool) -> None:
    image = nibabel.Nifti1Image(data, affine)
    if by_qform:
        image.set_qform(affine, 1)
        image.set_sform(None, 0)
    nibabel.save(image, path)


def write_nrrd(path: Path, data: NDArray[np.generic], affine: NDArray[np.float64], packed: bool) -> None:
    """Write `(i, j, k)` data by SimpleITK."""
    lps = RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, path, useCompression=packed)


def places(path: Path) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Values `(i, j, k)` of a file, and where each lies in LPS mm `(i, j, k, 3)`, by nibabel or SimpleITK."""
    if path.suffix == ".nrrd":
        image = SimpleITK.ReadImage(path)
        values = SimpleITK.GetArrayFromImage(image).T
        found = [image.TransformIndexToPhysicalPoint([int(n) for n in index]) for index in np.ndindex(values.shape)]
        return values, np.array(found).reshape(*values.shape, 3)
    loaded = nibabel.load(path)
    values = np.asarray(loaded.dataobj)
    indices = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), axis=-1)
    return values, nibabel.affines.apply_affine(RAS @ loaded.affine, indices)


@settings(max_examples=150, deadline=None)
@given(poses(), st.sampled_from([".nii", ".nii.gz", ".nrrd"]), st.booleans())
def test_voxels_stay_where_they_lie_and_masks_come_back(
    pose: tuple[tuple[int, ...], NDArray[np.float64]], suffix: str, variant: bool
) -> None:
    shape, affine = pose
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    with tempfile.TemporaryDirectory() as folder:
        path, back = Path(folder) / f"v{suffix}", Path(folder) / f"m{suffix}"
        (write_nrrd if suffix == ".nrrd" else write_nifti)(path, data, affine, variant)
        array, geometry, original = read_image(path)
        assert mask_suffix(original) == suffix
        write_mask_like(back, (array % 3 == 0).astype(np.uint8), original)
        values, where = places(path)
        marked, where_marked = places(back)
    np.testing.assert_array_equal(marked, values % 3 == 0)
    np.testing.assert_allclose(where_marked, where, atol=1e-3)
    # Every voxel of the canonical array lies where the file has the voxel of the same value.
    order = np.argsort(array.ravel())
    indices = np.stack(np.unravel_index(order, array.shape)[::-1], axis=-1)
    ours = nibabel.affines.apply_affine(np.array(geometry.affine), indices)
    np.testing.assert_allclose(ours, where.reshape(-1, 3)[np.argsort(values.ravel())], atol=2e-3)
    # Columns run leftwards, rows backwards, slices upwards, each as far as the pose allows.
    assert nibabel.aff2axcodes(RAS @ np.array(geometry.affine)) == ("L", "P", "S")
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(sorted(geometry.spacing), sorted(steps), rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_resampled_masks_are_those_of_simpleitk(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        mask_path, image_path = Path(folder) / "mask.nrrd", Path(folder) / "image.nrrd"
        for path in (mask_path, image_path):
            affine = np.eye(4)
            affine[:3, :3] = Rotation.random(random_state=rng).as_matrix() * rng.uniform(0.7, 2, 3)
            shape = rng.integers(4, 12, 3)
            affine[:3, 3] = -affine[:3, :3] @ (shape / 2) + rng.uniform(-1, 1, 3)
            write_nrrd(path, rng.integers(0, 2, shape, dtype=np.uint8), affine, False)
        mask, image = read_image(mask_path), read_image(image_path)
        expected_there = SimpleITK.Resample(
            SimpleITK.ReadImage(mask_path), SimpleITK.ReadImage(image_path), interpolator=SimpleITK.sitkNearestNeighbor
        )
        SimpleITK.WriteImage(expected_there, Path(folder) / "expected.nrrd")
        expected = read_image(Path(folder) / "expected.nrrd").array
    found = resample_mask(mask.array.astype(np.uint8), mask.geometry, image.array.shape, image.geometry)
    np.testing.assert_array_equal(found, expected)


def geometry(spacing: tuple[float, float, float] = (2.0, 1.0, 1.0), shift: float = 0.0) -> Geometry:
    affine = np.diag([*spacing[::-1], 1.0])
    affine[0, 3] = shift
    return Geometry(tuple(map(tuple, affine.tolist())), spacing, True)


@pytest.mark.parametrize("shift, same", [(0.0, True), (0.09, True), (0.11, False), (-5.0, False)])
def test_grids_are_the_same_to_a_tenth_of_a_voxel(shift: float, same: bool) -> None:
    assert same_grid((3, 4, 5), geometry(), (3, 4, 5), geometry(shift=shift)) is same


def test_a_spacing_that_is_little_off_shows_at_the_far_corner() -> None:
    assert not same_grid((3, 4, 500), geometry(), (3, 4, 500), geometry((2.0, 1.0, 1.001)))
    assert same_grid((3, 4, 50), geometry(), (3, 4, 50), geometry((2.0, 1.0, 1.001)))


def test_both_grids_are_printed() -> None:
    assert describe_grid((3, 4, 5), geometry(shift=-7.25)) == (
        "shape 3×4×5, spacing 2×1×1 mm, origin (-7.25, 0, 0), direction (1, 0, 0) (0, 1, 0) (0, 0, 1)"
    )
    with pytest.raises(DataError) as caught:
        require_same_grid(
            Path("a.nii"), (3, 4, 5), geometry(), Path("b.nii"), (3, 4, 6), geometry((4.0, 1.0, 1.0)), "Do so."
        )
    for part in ("b.nii: lies on another grid than a.nii", "shape 3×4×6, spacing 4×1×1", "shape 3×4×5, spacing 2×1×1"):
        assert part in str(caught.value)
