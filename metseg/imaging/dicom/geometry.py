"""Where DICOM planes lie in the patient, and the regular grid that the planes of a series make up.

Positions are LPS+ millimetres; the equations are PS3.3 C.7.6.2.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry, to_canonical

SAME_DIRECTION = 1e-3
SAME_SPACING = 1e-3
UNEVEN = 0.1
"""Share of the slice distance by which one step may differ: scanners round positions."""

MAX_VOXELS = 1 << 30
"""Of a mask on a grid of its own: frames far apart may claim any number of planes between them."""

Place = tuple[float, float, float]


@dataclass(frozen=True)
class Plane:
    """One slice of a series, or one frame of a file.

    Attributes:
        frame: its number in the file, from 0.
        position: LPS+ mm of the centre of the first pixel.
        orientation: direction along a row, then along a column, as unit vectors.
        spacing: mm between rows, then between columns.
        size: rows, columns.
        slope, intercept: value = stored · slope + intercept.
        step: mm to the next plane, as a multi-frame header says it (SpacingBetweenSlices, else SliceThickness); 0 where
            it says nothing.
    """

    frame: int
    position: Place
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    size: tuple[int, int]
    slope: float = 1.0
    intercept: float = 0.0
    step: float = 0.0

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the plane."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def height(self) -> float:
        """Its place along the normal, mm."""
        return float(np.dot(self.position, self.normal))


@dataclass(frozen=True)
class Grid:
    """A regular grid of parallel planes.

    Attributes:
        shape: planes, rows, columns.
        affine: 4×4, `(column, row, plane)` → LPS+ mm.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm between planes, rows and columns."""
        across, down, through = (float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))
        return through, down, across

    def describe(self) -> str:
        """Its size, spacing, first voxel, and directions of columns, rows and planes, for a message."""
        size, spacing = "×".join(map(str, self.shape)), "×".join(f"{length:.3f}" for length in self.spacing)
        origin = ", ".join(f"{value:.2f}" for value in self.affine[:3, 3])
        directions = (self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)).T
        axes = " ".join(f"({', '.join(f'{round(float(one), 3) + 0.0:g}' for one in axis)})" for axis in directions)
        return f"{size} voxels (planes, rows, columns) of {spacing} mm, the first at LPS ({origin}) mm, along {axes}"

    def shift(self, other: Grid) -> float:
        """Largest distance in mm between the same corner of both; infinite where the shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        planes, rows, columns = self.shape
        corners = [(x, y, z, 1) for x in (0, columns - 1) for y in (0, rows - 1) for z in (0, planes - 1)]
        return float(np.linalg.norm(((self.affine - other.affine) @ np.array(corners).T)[:3], axis=0).max())

    def same_as(self, other: Grid) -> bool:
        """Whether both overlay each other to a tenth of a voxel."""
        return self.shift(other) <= 0.1 * min(self.spacing)


def planes_of(dataset: Dataset) -> list[Plane]:
    """Planes of an image or SEG file, single or multi-frame, in the order of its frames."""
    size = int(dataset.Rows), int(dataset.Columns)
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return [
            Plane(
                frame=0,
                position=_place(dataset.ImagePositionPatient),
                orientation=_orientation(dataset.ImageOrientationPatient),
                spacing=_pair(dataset.PixelSpacing),
                size=size,
                slope=_number(dataset.get("RescaleSlope"), 1.0),
                intercept=_number(dataset.get("RescaleIntercept"), 0.0),
            )
        ]
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    found = []
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        measures = _group(frame, shared, "PixelMeasuresSequence")
        values = _group(frame, shared, "PixelValueTransformationSequence")
        found.append(
            Plane(
                frame=number,
                position=_place(_group(frame, shared, "PlanePositionSequence").ImagePositionPatient),
                orientation=_orientation(_group(frame, shared, "PlaneOrientationSequence").ImageOrientationPatient),
                spacing=_pair(measures.PixelSpacing),
                size=size,
                slope=_number(values.get("RescaleSlope"), 1.0),
                intercept=_number(values.get("RescaleIntercept"), 0.0),
                step=_number(measures.get("SpacingBetweenSlices"), 0.0) or _number(measures.get("SliceThickness"), 0.0),
            )
        )
    return found


def _group(frame: Dataset, shared: Dataset, keyword: str) -> Any:
    """The only item of a functional group, of the frame before what all frames share; empty where there is none."""
    return (frame.get(keyword) or shared.get(keyword) or [Dataset()])[0]


def _place(values: Any) -> Place:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _pair(values: Any) -> tuple[float, float]:
    down, across = (float(value) for value in values)
    return down, across


def _orientation(values: Any) -> tuple[float, ...]:
    row, column = np.array(values[:3], dtype=np.float64), np.array(values[3:6], dtype=np.float64)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose(lengths, 1, atol=0.01) or abs(row @ column) > 0.01:
        raise ValueError("directions of rows and columns are no perpendicular unit vectors")
    return (*(row / np.linalg.norm(row)), *(column / np.linalg.norm(column)))


def _number(value: Any, default: float) -> float:
    return default if value is None or value == "" else float(value)


def grid_of(planes: list[Plane], name: str) -> tuple[Grid, list[int]]:
    """The grid that planes make up, and their order along its normal.

    Args:
        planes: of one series, in any order.
        name: what a message calls the series.

    Returns:
        The grid; and positions in `planes`, in the order of the grid's first axis.

    Raises:
        DataError: planes are not parallel, differ in size or spacing, lie twice in one place, or leave a gap; the
            message names the gap.
    """
    _require_parallel(planes, name)
    order = sorted(range(len(planes)), key=lambda index: planes[index].height)
    first, last = planes[order[0]], planes[order[-1]]
    if not all(np.isfinite(plane.position).all() for plane in planes) or not 0 < min(first.spacing) < np.inf:
        raise DataError(f"{name}: positions or spacing are no positive numbers. Export the series again.")
    if len(planes) == 1:
        raise DataError(f"{name}: it has one slice, so the distance of slices is unknown. Export the whole series.")
    heights = np.array([planes[index].height for index in order])
    _require_even(heights, name)
    step = (np.array(last.position) - np.array(first.position)) / (len(planes) - 1)
    if np.linalg.norm(np.cross(step, first.normal)) > 0.02 * np.linalg.norm(step):
        raise DataError(
            f"{name}: its slices are sheared (a tilted gantry): each lies sideways of the one before. Resample the "
            "series to a rectangular grid."
        )
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.orientation[:3]) * first.spacing[1]
    affine[:3, 1] = np.array(first.orientation[3:]) * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    return Grid((len(planes), *first.size), affine), order


def grid_of_frames(planes: list[Plane], name: str) -> tuple[Grid, list[int]]:
    """The grid of frames that may repeat a place and leave planes out, as those of a SEG do.

    Args:
        planes: of one file, in any order.
        name: what a message calls the file.

    Returns:
        The grid; and for each of `planes` its index along the grid's first axis.

    Raises:
        DataError: planes are not parallel, differ in size or spacing, or lie at no whole multiples of one distance.
    """
    _require_parallel(planes, name)
    first = min(planes, key=lambda plane: plane.height)
    offsets = np.array([plane.position for plane in planes]) - first.position
    heights = offsets @ first.normal
    steps = np.diff(np.unique(heights.round(3)))
    # Slices may be thicker than they are apart, but frames a fraction of that apart are no stack.
    closest = float(steps.min()) if steps.size and steps.min() > first.step / 2 else 0.0
    tried = [step for step in (first.step, closest) if 0 < step < np.inf]
    sideways = np.abs(offsets - np.outer(heights, first.normal)).max()
    for step in tried:
        places = heights / step
        if np.abs(places - places.round()).max() > UNEVEN or sideways > UNEVEN * min(first.spacing):
            continue
        shape = (int(places.max().round()) + 1, *first.size)
        if int(np.prod(shape, dtype=object)) > MAX_VOXELS:
            break
        affine = np.eye(4)
        affine[:3, 0] = np.array(first.orientation[:3]) * first.spacing[1]
        affine[:3, 1] = np.array(first.orientation[3:]) * first.spacing[0]
        affine[:3, 2], affine[:3, 3] = first.normal * step, first.position
        return Grid(shape, affine), [int(place) for place in places.round()]
    found = ", ".join(f"{step:.2f}" for step in steps[:5])
    raise DataError(
        f"{name}: its {len(planes)} frames lie on other planes than the image's, and make up no grid of their own: "
        f"they are {found} mm apart. Export the mask on the image's own planes."
    )


def _require_parallel(planes: list[Plane], name: str) -> None:
    first = planes[0]
    for plane in planes[1:]:
        if plane.size != first.size or not np.allclose(plane.spacing, first.spacing, atol=SAME_SPACING):
            found = [f"{p.size[0]}×{p.size[1]} pixels of {p.spacing[0]:g}×{p.spacing[1]:g} mm" for p in (first, plane)]
            raise DataError(f"{name}: slices differ: {found[0]} and {found[1]}. Export one series of one size.")
        if not np.allclose(plane.orientation, first.orientation, atol=SAME_DIRECTION):
            raise DataError(
                f"{name}: slices are not parallel (several orientations in one series, such as a localiser). "
                "Remove the series, or name others by data_channels=."
            )


def _require_even(heights: NDArray[np.float64], name: str) -> None:
    """Raise a `DataError` that names the first gap, or the first place with two slices."""
    steps = np.diff(heights)
    usual = float(np.median(steps))
    if usual <= 0 or steps.min() < UNEVEN * usual:
        place = heights[int(np.argmin(steps))]
        raise DataError(
            f"{name}: two slices lie at {place:.2f} mm along the normal: the series holds several echoes, times or "
            "copies. Export each of them as its own series."
        )
    uneven = np.flatnonzero(np.abs(steps - usual) > UNEVEN * usual)
    if len(uneven):
        at = int(uneven[0])
        missing = round(float(steps[at]) / usual) - 1
        cause = f"{missing} slice(s) seem to be missing there" if missing > 0 else "slices are unevenly spaced"
        raise DataError(
            f"{name}: a step of {steps[at]:.2f} mm between slices {at + 1} and {at + 2} of {len(heights)} (at "
            f"{heights[at]:.2f} and {heights[at + 1]:.2f} mm along the normal), while slices are {usual:.2f} mm apart: "
            f"{cause}. Export the whole series again, or resample it."
        )


def canonical(array: NDArray[Any], grid: Grid) -> tuple[NDArray[Any], Geometry, NDArray[np.float64]]:
    """Turn `(planes, rows, columns)` on `grid` into canonical axes.

    Returns:
        Array `(slices, height, width)`; its geometry; and the transform that `orientation.from_canonical` undoes, from
        the grid's `(column, row, plane)`.
    """
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    turned, affine, transform = to_canonical(np.transpose(array, (2, 1, 0)), ras)
    return turned, Geometry.of_canonical(affine, 1.0, spacing_known=True), transform
