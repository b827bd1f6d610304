"""A volume in memory and a case on disk, in one orientation whatever came in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Geometry:
    """Where a canonical volume lies in the patient.

    Canonical axes are `(slices, height, width)`: inferior to superior, anterior to posterior, and the
    patient's right to left, so that a slice drawn with row 0 on top is the usual radiological axial view.

    Attributes:
        affine: 4×4 nested tuple, voxel index `(width, height, slice)` → LPS+ millimetres as ITK and DICOM have it.
        spacing: mm between voxel centres along `(slices, height, width)`; 1 where unknown.
        spacing_known: False for formats that carry no spacing; distances are then voxels.
    """

    affine: tuple[tuple[float, ...], ...]
    spacing: tuple[float, float, float]
    spacing_known: bool

    @classmethod
    def unknown(cls) -> Geometry:
        """Geometry of a picture that carries none: unit spacing, identity affine."""
        return cls(tuple(tuple(float(i == j) for j in range(4)) for i in range(4)), (1.0, 1.0, 1.0), False)


@dataclass(frozen=True)
class Case:
    """One timepoint of one patient on disk, in canonical form.

    A case is a folder that holds `image.npy` `(slices, height, width, channels)` in the dtype that came in,
    `mask.npy` uint8 `(slices, height, width)` of 0 and 1, and `case.json` with the fields below.

    Attributes:
        case: name of the case, unique in the cohort.
        patient: the patient it belongs to; every case of a patient is in one split.
        channels: names of the channels, in order.
        slice_names: one name a slice, as the source calls it (its number for a volume).
        sources: files it was read from, relative to the cohort's root.
    """

    case: str
    patient: str
    channels: tuple[str, ...]
    geometry: Geometry
    slice_names: tuple[str, ...]
    sources: tuple[str, ...]

    def write(self, folder: Path, image: NDArray[np.generic], mask: NDArray[np.uint8]) -> None:
        """Write the case into `folder`, which must not exist."""
        folder.mkdir(parents=True)
        np.save(folder / "image.npy", np.ascontiguousarray(image))
        np.save(folder / "mask.npy", np.ascontiguousarray(mask))
        (folder / "case.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Case:
        """Read the description of the case in `folder`; `load_image` and `load_mask` give its arrays."""
        fields = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        geometry = fields.pop("geometry")
        return cls(
            case=fields["case"],
            patient=fields["patient"],
            channels=tuple(fields["channels"]),
            geometry=Geometry(
                affine=tuple(tuple(row) for row in geometry["affine"]),
                spacing=(geometry["spacing"][0], geometry["spacing"][1], geometry["spacing"][2]),
                spacing_known=geometry["spacing_known"],
            ),
            slice_names=tuple(fields["slice_names"]),
            sources=tuple(fields["sources"]),
        )


def load_image(folder: Path) -> NDArray[np.generic]:
    """Image of the case in `folder`, memory-mapped, `(slices, height, width, channels)`."""
    return np.load(folder / "image.npy", mmap_mode="r")  # type: ignore[no-any-return]


def load_mask(folder: Path) -> NDArray[np.uint8]:
    """Mask of the case in `folder`, memory-mapped, uint8 `(slices, height, width)`."""
    return np.load(folder / "mask.npy", mmap_mode="r")  # type: ignore[no-any-return]
