"""Masks in DICOM, segmentations (SEG) and structure sets (RTSTRUCT), on the planes of an image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from metseg.errors import DataError
from metseg.imaging.dicom.headers import SEGMENTATIONS, Header, items, read_dataset, refusing
from metseg.imaging.dicom.plane_geometry import Grid, Plane, functional_group, grid_of_frames, planes_of
from metseg.imaging.dicom.series import decoded
from metseg.imaging.geometry import corners_of, resample_mask

OFF_PLANE = 0.25
"""Tolerance of a contour's distance from its slice, as a share of the slice distance."""

OFF_VOXEL = 0.1
FRACTIONAL = "FRACTIONAL"


@dataclass(frozen=True)
class Regions:
    """Regions of a mask file: segment numbers of a SEG, ROI numbers of an RTSTRUCT.

    Attributes:
        header: the file.
        numbers: in rising order.
        fractional: whether it is a SEG of fractions or probabilities, to be cut at a value.
    """

    header: Header
    numbers: tuple[int, ...]
    fractional: bool = False


def regions_of(header: Header) -> Regions:
    """Read the numbers of the regions in the file of `header`.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> from pydicom.uid import ImplicitVRLittleEndian
        >>> from metseg.imaging.dicom.headers import scan
        >>> from metseg.pseudonyms import Pseudonyms
        >>> structures = examples.rt_ss
        >>> structures.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        >>> with TemporaryDirectory() as folder:
        ...     structures.save_as(Path(folder) / "RS1", enforce_file_format=True)
        ...     (header,) = scan(Path(folder), Pseudonyms(b"key")).headers
        ...     regions_of(header).numbers
        (1, 2, 3)
    """
    dataset = read_dataset(header.path, header.handle)
    with refusing(header.handle):
        if header.kind in SEGMENTATIONS:
            numbers = [int(item.SegmentNumber) for item in items(dataset, "SegmentSequence")]
        else:
            numbers = [int(item.ROINumber) for item in items(dataset, "StructureSetROISequence")]
    # Number 0 of a label map is its background.
    fractional = str(dataset.get("SegmentationType", "")).strip() == FRACTIONAL
    return Regions(header, tuple(sorted(number for number in set(numbers) if number > 0)), fractional)


def read_mask(
    header: Header,
    wanted: Collection[int],
    grid: Grid,
    *,
    threshold: int | None = None,
    resample: bool = False,
    drawn_on: Callable[[], Iterable[Grid]] = tuple,
) -> tuple[NDArray[np.uint8], bool]:
    """Read a SEG or RTSTRUCT onto the planes of an image.

    Args:
        header: the file.
        wanted: numbers of the regions that are lesion.
        grid: of the image.
        threshold: stored value of a FRACTIONAL SEG above which a voxel is lesion; None takes half of its maximum and
            more.
        resample: resample a mask on another grid onto `grid` by nearest neighbour, instead of refusing it.
        drawn_on: returns the grids of other series that an RTSTRUCT may refer to: contours have no slice thickness.

    Returns:
        uint8 `(planes, rows, columns)` of 0 and 1, on `grid`; and whether it was resampled.

    Raises:
        DataError: the file is broken, or does not lie on the image's grid; the message has both.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from pydicom import examples
        >>> from pydicom.uid import ImplicitVRLittleEndian
        >>> from metseg.imaging.dicom.headers import scan
        >>> from metseg.pseudonyms import Pseudonyms
        >>> structures = examples.rt_ss
        >>> structures.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        >>> affine = np.array([[100, 0, 0, -250], [0, 100, 0, -200], [0, 0, 10, -200], [0, 0, 0, 1]])
        >>> with TemporaryDirectory() as folder:
        ...     structures.save_as(Path(folder) / "RS1", enforce_file_format=True)
        ...     (header,) = scan(Path(folder), Pseudonyms(b"key")).headers
        ...     mask, resampled = read_mask(header, (1,), Grid((3, 5, 6), affine))
        >>> mask.sum(axis=(1, 2)).tolist(), resampled  # of a box of 400×300 mm, in pixels of 100×100 mm
        ([12, 12, 12], False)
    """
    with refusing(header.handle):
        if header.kind in SEGMENTATIONS:
            mask, own = _read_segmentation(header, wanted, grid, threshold, resample)
        else:
            mask, own = _read_structures(header, wanted, grid, resample, drawn_on)
        if own is grid:
            return mask, False
        return resample_mask(mask, own.geometry, grid.shape, grid.geometry), not _on_voxels(own, grid)


def _read_segmentation(
    header: Header, wanted: Collection[int], grid: Grid, threshold: int | None, resample: bool
) -> tuple[NDArray[np.uint8], Grid]:
    """Return the regions of a SEG on its own grid, and that grid."""
    import highdicom

    dataset = read_dataset(header.path, header.handle, pixels=True)
    with refusing(header.handle, "this is no valid DICOM SEG"):
        # highdicom compares the file with the standard; it may alter its argument.
        checked = highdicom.seg.segread(BytesIO(header.path.read_bytes()))
        kind = checked.segmentation_type.value
        planes = planes_of(dataset)
        numbers = [0 if kind == "LABELMAP" else _segment_number(dataset, frame) for frame in range(len(planes))]
    lowest = _lowest_lesion(dataset, kind, threshold, header.handle)
    frames = decoded(dataset, header.handle)
    own = grid
    indices: Sequence[int | None] = [_plane_index(plane, grid) for plane in planes]
    if None in indices:
        own, indices = grid_of_frames(planes, header.handle)
        _require_on_voxels(header.handle, own, grid, resample)
    mask = np.zeros(own.shape, dtype=np.uint8)
    for index, number, frame in zip(indices, numbers, frames, strict=True):
        if kind == "LABELMAP":
            mask[index] |= np.isin(frame, list(wanted)).astype(np.uint8)
        elif number in wanted:
            mask[index] |= (frame >= lowest).astype(np.uint8)
    return mask, own


def _lowest_lesion(dataset: Dataset, kind: str, threshold: int | None, name: str) -> float:
    """Return the smallest stored value of lesion."""
    if kind != FRACTIONAL:
        return 1
    full = float(dataset.get("MaximumFractionalValue") or 1)
    if threshold is None:
        # PS3.3 C.8.20.2: FRACTIONAL stores a fraction or probability, of which this is half.
        return full / 2
    if threshold >= full:
        raise DataError(
            f"{name}: data_mask_threshold={threshold}, while its values run from 0 to {full:g}: nothing would be "
            "lesion. Name a lower one, or none, which takes half of the maximum."
        )
    return threshold + 1


def _on_voxels(own: Grid, grid: Grid) -> bool:
    """Return True if every voxel of `own` is one of `grid`.

    The axes may differ in order and direction.
    """
    between = np.linalg.solve(grid.affine, own.affine)
    whole = between.round()
    axes = np.abs(whole[:3, :3])
    if not ((axes.sum(axis=0) == 1).all() and (axes.sum(axis=1) == 1).all()):
        return False
    corners = corners_of(own.shape)
    there = (whole @ corners)[:3]
    limits = np.array(grid.shape[::-1])[:, None]
    return bool(
        np.abs((between - whole) @ corners).max() <= OFF_VOXEL and (there >= 0).all() and (there < limits).all()
    )


def _segment_number(dataset: Dataset, frame: int) -> int:
    return int(functional_group(dataset, frame, "SegmentIdentificationSequence").ReferencedSegmentNumber)


def _plane_index(plane: Plane, grid: Grid) -> int | None:
    """Return the index in `grid` of a SEG frame; None if on no plane."""
    place = np.linalg.solve(grid.affine, [*plane.position, 1.0])[:3]
    index = round(float(place[2]))
    drift = np.abs(grid.affine - plane.affine(grid.affine[:3, 2]))[:3, :3].max() * max(plane.size)
    off = np.abs(place - (0, 0, index)).max()
    fits = drift <= OFF_VOXEL * min(grid.geometry.spacing) and off <= OFF_VOXEL and 0 <= index < grid.shape[0]
    return index if fits and plane.size == grid.shape[1:] else None


def _read_structures(
    header: Header, wanted: Collection[int], grid: Grid, resample: bool, drawn_on: Callable[[], Iterable[Grid]]
) -> tuple[NDArray[np.uint8], Grid]:
    """Return the regions of an RTSTRUCT, and the grid they were drawn on."""
    dataset = read_dataset(header.path, header.handle)
    regions = [
        _outlines(roi, header.handle)
        for roi in items(dataset, "ROIContourSequence")
        if int(roi.ReferencedROINumber) in wanted
    ]
    outlines = [outline for region in regions for outline in region]
    own = grid if all(_plane_of(outline, grid) is not None for outline in outlines) else None
    if own is None:
        own = _grid_of_outlines(outlines, grid, header.handle, drawn_on)
        _require_on_voxels(header.handle, own, grid, resample)
    mask = np.zeros(own.shape, dtype=np.uint8)
    for contours in regions:
        region = np.zeros(own.shape, dtype=np.uint8)
        for outline in contours:
            # Within an earlier contour of the region, it cuts a hole.
            region[_plane_of(outline, own)] ^= polygon(_places(outline, own)[:, :2], (own.shape[1], own.shape[2]))
        mask |= region
    return mask, own


def _outlines(roi: Any, name: str) -> list[NDArray[np.float64]]:
    """Return the closed contours of an ROI, each `(n, 3)` LPS mm."""
    contours = []
    for contour in items(roi, "ContourSequence"):
        kind = str(contour.ContourGeometricType)
        if kind == "POINT":
            continue
        if kind != "CLOSED_PLANAR":
            raise DataError(
                f"{name}: a contour is {kind}; closed planar ones are read. Export the lesions so, or as SEG."
            )
        contours.append(np.array([float(value) for value in contour.ContourData]).reshape(-1, 3))
    return contours


def _places(outline: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Return `(n, 3)` columns, rows and planes of `grid`."""
    inverse = np.linalg.inv(grid.affine)
    return np.asarray(outline @ inverse[:3, :3].T + inverse[:3, 3], dtype=np.float64)


def _plane_of(outline: NDArray[np.float64], grid: Grid) -> int | None:
    """Return the index in `grid` of a contour's plane; None if on no plane."""
    heights = _places(outline, grid)[:, 2]
    index = round(float(heights.mean()))
    return index if np.abs(heights - index).max() <= OFF_PLANE and 0 <= index < grid.shape[0] else None


def _grid_of_outlines(
    outlines: list[NDArray[np.float64]], grid: Grid, name: str, drawn_on: Callable[[], Iterable[Grid]]
) -> Grid:
    """Return the grid of another series that the contours were drawn on."""
    for other in drawn_on():
        if all(_plane_of(outline, other) is not None for outline in outlines):
            return other
    wrong = next(outline for outline in outlines if _plane_of(outline, grid) is None)
    raise DataError(
        f"{name}: a contour lies at plane {_places(wrong, grid)[:, 2].mean() + 1:.2f} of an image with planes 1 to "
        f"{grid.shape[0]}: {grid.describe()}. Draw contours on the images' own slices, or add the series that they "
        "were drawn on and set data_resample_masks=true."
    )


def _require_on_voxels(name: str, own: Grid, grid: Grid, resample: bool) -> None:
    """Raise a `DataError` with both grids if a mask needs resampling without leave."""
    if not resample and not _on_voxels(own, grid):
        raise DataError(
            f"{name}: the mask lies on another grid than its image. Its grid: {own.describe()}; the image's: "
            f"{grid.describe()}. Draw or export the mask on the images' own grid, or set data_resample_masks=true, "
            "which takes the nearest voxel of the mask."
        )


def polygon(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pixels whose centre lies inside a closed polygon, by the even-odd rule.

    Args:
        points: `(n, 2)`, columns and rows; pixel centres are whole numbers.
        size: rows, columns.

    Returns:
        uint8 `(rows, columns)` of 0 and 1.

    >>> polygon(np.array([[0.5, 0.5], [2.5, 0.5], [2.5, 1.5], [0.5, 1.5]]), (3, 4)).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    plane = np.zeros(size, dtype=np.uint8)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        first, last = sorted((y0, y1))
        # Half open, so that a corner shared by two edges is crossed once.
        for row in range(max(0, int(np.ceil(first))), min(size[0], int(np.ceil(last)))):
            crossing = x0 + (row - y0) * (x1 - x0) / (y1 - y0)
            plane[row, max(0, int(np.ceil(crossing))) :] ^= 1
    return plane
