"""Positions of DICOM planes, and the regular grid of the planes of a series.

Positions are LPS+ millimetres; the equations are PS3.3 C.7.6.2.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry, describe_grid, same_grid, to_canonical

SAME_DIRECTION = 1e-3
SAME_SPACING = 1e-3
UNEVEN = 0.1
"""Tolerance of one step, as a share of the slice distance: scanners round positions."""

MAX_VOXELS = 1 << 30
"""Of a mask on its own grid: distant frames may imply any number of planes between them."""


@dataclass(frozen=True)
class Plane:
    """One slice of a series, or one frame of a file.

    Attributes:
        frame: its number in the file, from 0.
        position: `(3,)`, LPS+ mm of the centre of the first pixel.
        orientation: `(6,)`, direction along a row, then along a column, as unit vectors.
        spacing: `(2,)`, mm between rows, then between columns.
        size: rows, columns.
        slope, intercept: value = stored · slope + intercept.
        step: mm to the next plane, from SpacingBetweenSlices or else SliceThickness; 0 if absent.
    """

    frame: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: NDArray[np.float64]
    size: tuple[int, int]
    slope: float
    intercept: float
    step: float

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the plane."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def height(self) -> float:
        """Position along the normal, mm."""
        return float(self.position @ self.normal)

    def affine(self, step: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the affine of a grid whose first plane is this one.

        Args:
            step: `(3,)`, LPS+ mm from this plane to the next.

        Returns:
            4×4, `(column, row, plane)` → LPS+ mm.
        """
        across, down = self.orientation[:3] * self.spacing[1], self.orientation[3:] * self.spacing[0]
        return np.vstack([np.column_stack([across, down, step, self.position]), [0.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Grid:
    """A regular grid of parallel planes.

    Attributes:
        shape: planes, rows, columns.
        affine: 4×4, `(column, row, plane)` → LPS+ mm.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @cached_property
    def geometry(self) -> Geometry:
        """Position in the patient of an array with the axes of the grid."""
        return Geometry.of_affine(self.affine)

    def describe(self) -> str:
        """Return size, spacing, origin and directions as planes, rows, columns, for a message."""
        return f"{describe_grid(self.shape, self.geometry)}, as planes×rows×columns in LPS"

    def same_as(self, other: Grid) -> bool:
        """Return True if both overlay each other to a tenth of a voxel."""
        return same_grid(self.shape, self.geometry, other.shape, other.geometry)


def planes_of(dataset: Dataset) -> list[Plane]:
    """Return the planes of an image or SEG file, in the order of its frames.

    Example:
        >>> from pydicom import examples
        >>> (plane,) = planes_of(examples.mr)
        >>> plane.size, plane.position.tolist(), plane.step
        ((64, 64), [-83.9063, -91.2, 6.6406], 0.8)
    """
    return [_plane(dataset, frame) for frame in range(len(dataset.get("PerFrameFunctionalGroupsSequence") or [None]))]


def functional_group(dataset: Dataset, frame: int, keyword: str) -> Dataset:
    """Return a group of attributes of a frame, its own or the shared one.

    A single image is its own group.

    Example:
        >>> measures, shared, image = Dataset(), Dataset(), Dataset()
        >>> measures.SliceThickness = 3
        >>> shared.PixelMeasuresSequence = [measures]
        >>> image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], [Dataset()]
        >>> float(functional_group(image, 0, "PixelMeasuresSequence").SliceThickness)
        3.0
    """
    if not dataset.get("PerFrameFunctionalGroupsSequence"):
        return dataset
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    group = dataset.PerFrameFunctionalGroupsSequence[frame].get(keyword) or shared.get(keyword) or [Dataset()]
    return cast(Dataset, group[0])


def _plane(dataset: Dataset, frame: int) -> Plane:
    measures, values, position, orientation = (
        functional_group(dataset, frame, f"{name}Sequence")
        for name in ("PixelMeasures", "PixelValueTransformation", "PlanePosition", "PlaneOrientation")
    )
    return Plane(
        frame=frame,
        position=_vector(position.ImagePositionPatient, 3),
        orientation=_orientation(_vector(orientation.ImageOrientationPatient, 6)),
        spacing=_vector(measures.PixelSpacing, 2),
        size=(int(dataset.Rows), int(dataset.Columns)),
        slope=_number(values.get("RescaleSlope"), 1.0),
        intercept=_number(values.get("RescaleIntercept"), 0.0),
        step=_number(measures.get("SpacingBetweenSlices"), 0.0) or _number(measures.get("SliceThickness"), 0.0),
    )


def _vector(values: Any, length: int) -> NDArray[np.float64]:
    return np.array([float(value) for value in values]).reshape(length)


def _orientation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    directions = values.reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    if not np.allclose(lengths, 1, atol=0.01) or abs(directions[0] @ directions[1]) > 0.01:
        raise ValueError("directions of rows and columns are no perpendicular unit vectors")
    unit: NDArray[np.float64] = (directions / lengths).ravel()
    return unit


def _number(value: Any, default: float) -> float:
    return default if value is None or value == "" else float(value)


def grid_of(planes: list[Plane], name: str) -> Grid:
    """Return the grid of planes.

    Args:
        planes: of one series, in the order of the grid's first axis: by height.
        name: handle of the series, for messages.

    Raises:
        DataError: planes are not parallel, differ in size or spacing, lie twice in one place, or leave a gap; the
            message names the gap.

    Example:
        >>> from dataclasses import replace
        >>> from pydicom import examples
        >>> (plane,) = planes_of(examples.mr)
        >>> planes = [replace(plane, position=np.array([0.0, 0.0, height])) for height in (0, 3, 6)]
        >>> grid = grid_of(planes, "series-1")
        >>> grid.shape[0], grid.geometry.spacing[0]
        (3, 3.0)
    """
    _require_parallel(planes, name)
    first, last = planes[0], planes[-1]
    if not np.isfinite([plane.position for plane in planes]).all() or not 0 < min(first.spacing) < np.inf:
        raise DataError(f"{name}: positions or spacing are not finite and positive. Export the series again.")
    if len(planes) == 1:
        raise DataError(f"{name}: it has one slice, so the distance of slices is unknown. Export the whole series.")
    heights = np.array([plane.height for plane in planes])
    _require_even(heights, name)
    step = (last.position - first.position) / (len(planes) - 1)
    if np.linalg.norm(np.cross(step, first.normal)) > 0.02 * np.linalg.norm(step):
        raise DataError(
            f"{name}: its slices are sheared (a tilted gantry): each lies sideways of the one before. Resample the "
            "series to a rectangular grid."
        )
    return Grid((len(planes), *first.size), first.affine(step))


def grid_of_frames(planes: list[Plane], name: str) -> tuple[Grid, list[int]]:
    """Return the grid of frames that may repeat or skip planes, as in a SEG.

    Args:
        planes: of one file, in any order.
        name: handle of the file, for messages.

    Returns:
        The grid; and for each of `planes` its index along the grid's first axis.

    Raises:
        DataError: planes are not parallel, differ in size or spacing, or lie at no whole multiples of one distance.

    Example:
        >>> from dataclasses import replace
        >>> from pydicom import examples
        >>> (plane,) = planes_of(examples.mr)
        >>> planes = [replace(plane, position=np.array([0.0, 0.0, height])) for height in (9, 0, 3, 3)]
        >>> grid, indices = grid_of_frames(planes, "file-1")  # no frame lies at 6 mm
        >>> grid.shape, indices
        ((4, 64, 64), [3, 0, 1, 1])
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
        return Grid(shape, first.affine(first.normal * step)), [int(place) for place in places.round()]
    apart = ", ".join(f"{step:.2f}" for step in steps[:5])
    raise DataError(
        f"{name}: its {len(planes)} frames lie on other planes than the image's, and make up no grid of their own: "
        f"they are {apart} mm apart. Export the mask on the image's own planes."
    )


def _require_parallel(planes: list[Plane], name: str) -> None:
    first = planes[0]
    for plane in planes[1:]:
        if plane.size != first.size or not np.allclose(plane.spacing, first.spacing, atol=SAME_SPACING):
            sizes = [f"{p.size[0]}×{p.size[1]} pixels of {p.spacing[0]:g}×{p.spacing[1]:g} mm" for p in (first, plane)]
            raise DataError(f"{name}: slices differ: {sizes[0]} and {sizes[1]}. Export one series of one size.")
        if not np.allclose(plane.orientation, first.orientation, atol=SAME_DIRECTION):
            raise DataError(
                f"{name}: slices are not parallel (several orientations in one series, such as a localiser). "
                "Remove the series, or name others by data_channels=."
            )


def _require_even(heights: NDArray[np.float64], name: str) -> None:
    """Raise a `DataError` that names the first gap, or the first position with two slices."""
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
    """Return `(planes, rows, columns)` on `grid` in canonical axes.

    Returns:
        Array `(slices, height, width)`; its geometry; and the transform that `from_canonical` inverts, from the
        grid's `(column, row, plane)`.

    Example:
        >>> grid = Grid((2, 1, 1), np.diag([0.5, 0.5, -3.0, 1.0]))  # planes from head to feet
        >>> array, geometry, _ = canonical(np.array([[[7]], [[9]]]), grid)
        >>> array.ravel().tolist(), geometry.spacing, geometry.affine[2]
        ([9, 7], (3.0, 0.5, 0.5), (0.0, 0.0, 3.0, -3.0))
    """
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    turned, affine, transform = to_canonical(np.transpose(array, (2, 1, 0)), ras)
    return turned, Geometry.of_canonical(affine, 1.0, spacing_known=True), transform
