"""Canonical cases on disk: one folder with image, mask and description."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.imaging.geometry import Geometry
from metseg.records import Record

DESCRIPTION = "case.json"


@dataclass(frozen=True)
class Case(Record):
    """One timepoint of one patient, the content of `case.json`.

    A case is a folder with `image.npy` `(slices, height, width, channels)` in the dtype of the source, `mask.npy` uint8
    `(slices, height, width)` of 0 and 1, and `case.json`.

    Attributes:
        case: name of the case, unique in the cohort.
        patient: the patient; all cases of a patient are in one split.
        channels: names of the channels, in order.
        geometry: position in the patient.
        slice_names: one name per slice, as in the source (its number for a volume).
        sources: files it was read from, relative to the cohort's root.
    """

    case: str
    patient: str
    channels: tuple[str, ...]
    geometry: Geometry
    slice_names: tuple[str, ...]
    sources: tuple[str, ...]


def write_case(folder: Path, case: Case, image: NDArray[np.generic], mask: NDArray[np.uint8]) -> None:
    """Write a case into `folder`, which must not exist.

    Args:
        folder: folder to make.
        case: its description.
        image: `(slices, height, width, channels)`.
        mask: uint8 `(slices, height, width)` of 0 and 1.

    >>> from tempfile import TemporaryDirectory
    >>> case = Case("a", "a", ("t1c",), Geometry.unknown(), ("0", "1"), ())
    >>> with TemporaryDirectory() as name:
    ...     write_case(Path(name) / "a", case, np.zeros((2, 3, 4, 1)), np.zeros((2, 3, 4), np.uint8))
    ...     read_case(Path(name) / "a") == case, load_image(Path(name) / "a").shape
    (True, (2, 3, 4, 1))
    """
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", np.ascontiguousarray(image))
    np.save(folder / "mask.npy", np.ascontiguousarray(mask))
    case.write(folder / DESCRIPTION)


def read_case(folder: Path) -> Case:
    """Read the description of the case in `folder`; `load_image` and `load_mask` return its arrays.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> case = Case("p1-000", "p1", ("t1c",), Geometry.unknown(), ("0",), ("p1.png", "p1_mask.png"))
        >>> with TemporaryDirectory() as name:
        ...     write_case(Path(name) / "p1-000", case, np.zeros((1, 3, 4, 1)), np.zeros((1, 3, 4), np.uint8))
        ...     read_case(Path(name) / "p1-000").patient
        'p1'
    """
    return Case.read(folder / DESCRIPTION)


def load_image(folder: Path) -> NDArray[np.generic]:
    """Return the image of the case in `folder`, memory-mapped, `(slices, height, width, channels)`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> case = Case("p1-000", "p1", ("t1n", "t1c"), Geometry.unknown(), ("0",), ())
        >>> with TemporaryDirectory() as name:
        ...     write_case(Path(name) / "p1-000", case, np.array([[[[5, 9]]]], np.int16), np.ones((1, 1, 1), np.uint8))
        ...     load_image(Path(name) / "p1-000")[0, 0, 0].tolist()
        [5, 9]
    """
    return np.load(folder / "image.npy", mmap_mode="r")  # type: ignore[no-any-return]


def load_mask(folder: Path) -> NDArray[np.uint8]:
    """Return the mask of the case in `folder`, memory-mapped, uint8 `(slices, height, width)`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> case = Case("p1-000", "p1", ("t1c",), Geometry.unknown(), ("0",), ())
        >>> with TemporaryDirectory() as name:
        ...     write_case(Path(name) / "p1-000", case, np.zeros((1, 2, 2, 1)), np.eye(2, dtype=np.uint8)[None])
        ...     load_mask(Path(name) / "p1-000").tolist()
        [[[1, 0], [0, 1]]]
    """
    return np.load(folder / "mask.npy", mmap_mode="r")  # type: ignore[no-any-return]
