"""Masks in DICOM: segmentations (SEG) and structure sets (RTSTRUCT), brought onto the planes of an image."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from metseg.errors import DataError
from metseg.imaging.dicom import decoded
from metseg.imaging.dicom_headers import SEGMENTATIONS, Header, items, read_dataset, refusing
from metseg.imaging.dicom_planes import Grid, Plane, planes_of

OFF_PLANE = 0.25
"""Share of the slice distance by which a contour may lie off the slice it is drawn on."""


@dataclass(frozen=True)
class Regions:
    """Which regions a mask file holds: segment numbers of a SEG, ROI numbers of an RTSTRUCT.

    Attributes:
        header: the file.
        numbers: in rising order.
    """

    header: Header
    numbers: tuple[int, ...]


def regions_of(header: Header) -> Regions:
    """Read which regions the file of `header` holds."""
    dataset = read_dataset(header.path, header.handle)
    with refusing(header.handle):
        if header.kind in SEGMENTATIONS:
            numbers = [int(item.SegmentNumber) for item in items(dataset, "SegmentSequence")]
        else:
            numbers = [int(item.ROINumber) for item in items(dataset, "StructureSetROISequence")]
    # Number 0 of a label map is its background.
    return Regions(header, tuple(sorted(number for number in set(numbers) if number > 0)))


def read_mask(header: Header, wanted: Collection[int], grid: Grid) -> NDArray[np.uint8]:
    """Read a SEG or RTSTRUCT onto the planes of an image.

    Args:
        header: the file.
        wanted: numbers of the regions that are lesion.
        grid: of the image.

    Returns:
        uint8 `(planes, rows, columns)` of 0 and 1, on `grid`.

    Raises:
        DataError: the file is broken, or does not lie on the image's planes.
    """
    with refusing(header.handle):
        if header.kind in SEGMENTATIONS:
            return _read_segmentation(header, wanted, grid)
        return _read_structures(header, wanted, grid)


def _read_segmentation(header: Header, wanted: Collection[int], grid: Grid) -> NDArray[np.uint8]:
    import highdicom

    dataset = read_dataset(header.path, header.handle, pixels=True)
    with refusing(header.handle, "this is no valid DICOM SEG"):
        # highdicom holds the file against the standard; it may alter what it is given.
        checked = highdicom.seg.segread(BytesIO(header.path.read_bytes()))
        kind = checked.segmentation_type.value
        planes = planes_of(dataset)
        numbers = [0 if kind == "LABELMAP" else _segment_number(dataset, plane.frame) for plane in planes]
        full = float(dataset.get("MaximumFractionalValue") or 1)
    frames = decoded(dataset, header.handle)
    mask = np.zeros(grid.shape, dtype=np.uint8)
    for plane, number, frame in zip(planes, numbers, frames, strict=True):
        index = _plane_index(plane, grid, header.handle)
        if kind == "LABELMAP":
            mask[index] |= np.isin(frame, list(wanted)).astype(np.uint8)
        elif number in wanted:
            # PS3.3 C.8.20.2: FRACTIONAL stores a share or probability, of which this is half.
            mask[index] |= (frame >= full / 2 if kind == "FRACTIONAL" else frame > 0).astype(np.uint8)
    return mask


def _segment_number(dataset: Dataset, frame: int) -> int:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    group: Any = dataset.PerFrameFunctionalGroupsSequence[frame]
    named = group.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
    return int(named[0].ReferencedSegmentNumber)


def _plane_index(plane: Plane, grid: Grid, name: str) -> int:
    """Which plane of `grid` the SEG frame `plane` is."""
    across, down = grid.affine[:3, 0], grid.affine[:3, 1]
    own_across = np.array(plane.orientation[:3]) * plane.spacing[1]
    own_down = np.array(plane.orientation[3:]) * plane.spacing[0]
    place = np.linalg.solve(grid.affine, [*plane.position, 1.0])[:3]
    index = round(float(place[2]))
    drift = np.abs(np.stack([across - own_across, down - own_down])).max() * max(plane.size)
    off = np.abs(place - (0, 0, index)).max()
    if plane.size != grid.shape[1:] or drift > 0.1 * min(grid.spacing) or off > 0.1 or not 0 <= index < grid.shape[0]:
        size, position = "×".join(map(str, plane.size)), ", ".join(f"{value:.2f}" for value in plane.position)
        raise DataError(
            f"{name}: frame {plane.frame + 1} ({size} pixels of {plane.spacing[0]:.3f}×{plane.spacing[1]:.3f} mm, the "
            f"first at LPS ({position}) mm) lies on none of the image's planes: {grid.describe()}. Draw or export the "
            "segmentation on the images' own grid."
        )
    return index


def _read_structures(header: Header, wanted: Collection[int], grid: Grid) -> NDArray[np.uint8]:
    dataset = read_dataset(header.path, header.handle)
    mask = np.zeros(grid.shape, dtype=np.uint8)
    for roi in items(dataset, "ROIContourSequence"):
        if int(roi.ReferencedROINumber) not in wanted:
            continue
        region = np.zeros(grid.shape, dtype=np.uint8)
        for contour in items(roi, "ContourSequence"):
            _draw(contour, region, grid, header.handle)
        mask |= region
    return mask


def _draw(contour: Any, region: NDArray[np.uint8], grid: Grid, name: str) -> None:
    """Draw one contour of an ROI into `region`; within an earlier one it cuts a hole."""
    kind = str(contour.ContourGeometricType)
    if kind != "CLOSED_PLANAR":
        if kind == "POINT":
            return
        raise DataError(f"{name}: a contour is {kind}; closed planar ones are read. Export the lesions so, or as SEG.")
    points = np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)
    places = np.linalg.solve(grid.affine, np.column_stack([points, np.ones(len(points))]).T)[:3].T
    index = round(float(places[:, 2].mean()))
    if np.abs(places[:, 2] - index).max() > OFF_PLANE or not 0 <= index < grid.shape[0]:
        height = float(places[:, 2].mean())
        raise DataError(
            f"{name}: a contour lies at plane {height + 1:.2f} of an image with planes 1 to {grid.shape[0]}: "
            f"{grid.describe()}. Draw contours on the images' own slices."
        )
    region[index] ^= polygon(places[:, :2], (grid.shape[1], grid.shape[2]))


def polygon(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pixels whose centre lies inside a closed polygon, by the even-odd rule.

    Args:
        points: `(n, 2)`, columns and rows; pixel centres are whole numbers.
        size: rows, columns.

    Returns:
        uint8 `(rows, columns)` of 0 and 1.
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
