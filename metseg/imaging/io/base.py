"""Interface of image file formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metseg.imaging.geometry import Geometry


@dataclass(frozen=True)
class Original:
    """The grid of an image file, for writing a mask onto it.

    Attributes:
        path: the file.
        shape: of its voxel array, in the file's own axes.
        orientation: `(3, 2)`, nibabel's transform from the file's axes to canonical ones; None for pictures.
        header: on which the mask's header is modelled; None for pictures.
    """

    path: Path
    shape: tuple[int, ...]
    orientation: NDArray[np.float64] | None = None
    header: Any = None


class LoadedImage(NamedTuple):
    """An image file in canonical orientation.

    Attributes:
        array: `(slices, height, width)`, or `(slices, height, width, 3)` for coloured pictures. Its dtype is the
            file's, in native byte order, or float32 if the header scales the values.
        geometry: position in the patient.
        original: the file's own grid.
    """

    array: NDArray[np.generic]
    geometry: Geometry
    original: Original


class ImageFormat(ABC):
    """One file format.

    Attributes:
        endings: of file names, in lower case.
        has_geometry: whether the format stores the position in the patient.
    """

    endings: tuple[str, ...]
    has_geometry: bool

    def matches(self, path: Path) -> bool:
        """Return True if the file's name has one of the endings, in any case."""
        return path.name.lower().endswith(self.endings)

    @abstractmethod
    def read_image(self, path: Path) -> LoadedImage:
        """Read one file into canonical orientation.

        Raises:
            DataError: the file is absent, empty, damaged, too large, or of several volumes.
        """

    def read_affine(self, path: Path) -> NDArray[np.float64] | None:
        """Read the affine of the file's own axes → RAS+ from its header; None for pictures."""
        return None

    @abstractmethod
    def mask_endings(self, original: Original) -> tuple[str, ...]:
        """Return the endings of a mask's file name, the default first."""

    @abstractmethod
    def encode_mask(self, voxels: NDArray[np.uint8], original: Original, ending: str) -> bytes:
        """Return the content of a mask file.

        Args:
            voxels: uint8 of 0 and 1, in the file's own axes and shape.
            original: the grid.
            ending: of the file name, one of `mask_endings`.
        """
