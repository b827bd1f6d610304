"""Files of a segmented case: mask, overlay picture, lesions as JSON and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

import numpy as np

from metseg.csv_tables import Cell, csv_text
from metseg.files import write_json, written_beside
from metseg.imaging.contours import write_outlines
from metseg.imaging.dicom.segmentation_writer import Finder, write_dicom_segmentation
from metseg.imaging.dicom.series import DicomOriginal
from metseg.imaging.io import mask_suffix, write_mask_like
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import apply_window, volume_window
from metseg.scoring.lesion_table import LesionRow, lesion_labels, lesion_record
from metseg.serving.client.inputs import ReadCase
from metseg.serving.client.model_description import ModelDescription
from metseg.serving.client.segmentation_client import Segmentation

CSV_COLUMNS = (
    "case", "id", "x", "y", "z", "volume", "longest_axial_diameter", "mean_probability", "first_slice", "last_slice",
    "units",
)  # fmt: skip
"""Places are LPS+ millimetres and volumes mm³ if `units` is mm; else `(column, row, slice)` and voxels."""


@dataclass(frozen=True)
class CaseResult:
    """Lesions of one case.

    Attributes:
        case: its name.
        version: the model version that found them.
        units: `mm`, or `voxels` if the spacing is unknown.
        voxels_at_threshold: voxels that reach the threshold.
        voxels_kept: voxels of the mask.
        lesions: a row each, largest first.
        files: names of the files that the command read and wrote, by role (`files`, `mask`, `overlay`).
    """

    case: str
    version: int
    units: Literal["mm", "voxels"]
    voxels_at_threshold: int
    voxels_kept: int
    lesions: tuple[LesionRow, ...]
    files: tuple[tuple[str, object], ...] = ()

    @classmethod
    def of(cls, case: str, read: ReadCase, segmentation: Segmentation, **files: object) -> CaseResult:
        """Return the result of a case that was read and segmented."""
        return cls(
            case=case,
            version=segmentation.version,
            units="mm" if read.geometry.spacing_known else "voxels",
            voxels_at_threshold=segmentation.voxels_at_threshold,
            voxels_kept=int(np.count_nonzero(segmentation.mask)),
            lesions=segmentation.lesions,
            files=tuple(files.items()),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the case as `lesions.json` holds it."""
        return {
            "case": self.case,
            **dict(self.files),
            "version": self.version,
            "units": self.units,
            "voxels_at_threshold": self.voxels_at_threshold,
            "voxels_kept": self.voxels_kept,
            "lesions": [lesion_record(row) for row in self.lesions],
        }


def suffix_of(read: ReadCase) -> str:
    """Return the suffix of the case's mask: its image's, or `.dcm` for a SEG.

    Example:
        >>> from metseg.imaging.geometry import Geometry
        >>> from metseg.imaging.io import Original
        >>> picture = Original(Path("slice.jpg"), (1, 4, 4))
        >>> suffix_of(ReadCase(np.zeros((1, 4, 4, 1)), Geometry.unknown(), picture, {"all": "slice.jpg"}))
        '.png'
    """
    return ".dcm" if isinstance(read.original, DicomOriginal) else mask_suffix(read.original)


def write_outputs(
    read: ReadCase, segmentation: Segmentation, model_name: str, mask: Path, overlay: Path, *, patient: str | None
) -> None:
    """Write the mask on the image's grid, and a picture of slices with lesions.

    Args:
        read: the case.
        segmentation: its lesions.
        model_name: as the server names it.
        mask: file to write, with the suffix that `suffix_of` returns.
        overlay: PNG to write.
        patient: name in a DICOM SEG instead of the patient's; None keeps that of the images.

    Raises:
        DataError: a source image no longer exists.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from metseg.imaging.geometry import Geometry
        >>> from metseg.imaging.io import Original, read_image
        >>> mask = np.eye(8, dtype=np.uint8)[None]
        >>> read = ReadCase(mask[..., None], Geometry.unknown(), Original(Path("slice.png"), mask.shape), {})
        >>> description = ModelDescription.parse("metastases", '{"channels": ["t1c"]}')
        >>> segmentation = Segmentation(mask, mask.astype(np.float32), (), 8, 3, description)
        >>> with TemporaryDirectory() as folder:
        ...     written, overlay = Path(folder) / "mask.png", Path(folder) / "overlay.png"
        ...     write_outputs(read, segmentation, "metastases", written, overlay, patient=None)
        ...     int(np.count_nonzero(read_image(written).array)), overlay.is_file()
        (8, True)
    """
    description = segmentation.description
    if isinstance(read.original, DicomOriginal):
        finder = Finder(model_name, str(segmentation.version), description.metseg_version or "0")
        names = [f"Lesion {row.id}" for row in segmentation.lesions]
        write_dicom_segmentation(
            mask, lesion_labels(segmentation.mask), read.original, finder, patient=patient, descriptions=names
        )
    else:
        write_mask_like(mask, segmentation.mask, read.original)
    raw = np.asarray(read.image[..., -1:], dtype=np.float32)
    window = volume_window(raw, PreprocessingSpecification(channels=description.channels[-1:]))
    write_outlines(overlay, apply_window(raw, window)[..., 0], segmentation.mask > 0)


def write_lesions(
    folder: Path, model_name: str, description: ModelDescription, results: Sequence[CaseResult]
) -> tuple[Path, Path]:
    """Write `lesions.json` and `lesions.csv`, with the same lesions, to `folder`; return their paths.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> description = ModelDescription.parse("metastases at 127.0.0.1:8500", '{"channels": ["t1c"]}')
        >>> row = LesionRow(1, (12.5, -3.0, 40.0), (8.0, 20.0, 14.0), (7, 9), 410.0, 11.2, 0.93)
        >>> result = CaseResult("patient1", 3, "mm", 25, 20, (row,))
        >>> with TemporaryDirectory() as folder:
        ...     table, sheet = write_lesions(Path(folder), "metastases", description, [result])
        ...     print(sheet.read_text())
        "case","id","x","y","z","volume","longest_axial_diameter","mean_probability","first_slice","last_slice","units"
        "patient1",1,12.50,-3.00,40.00,410.00,11.20,0.9300,8,10,"mm"
        <BLANKLINE>
    """
    table, sheet = folder / "lesions.json", folder / "lesions.csv"
    cases = [result.to_dict() for result in results]
    write_json(table, {"model": description.summary(model_name), "cases": cases})
    rows = [(result.case, *_measures(row), result.units) for result in results for row in result.lesions]
    with written_beside(sheet) as temporary:
        temporary.write_text(csv_text([CSV_COLUMNS, *rows]), encoding="utf-8", newline="")
    return table, sheet


def _measures(row: LesionRow) -> list[Cell]:
    places = [Decimal(f"{value:.2f}") for value in (*row.centroid_mm, row.volume_mm3, row.longest_axial_diameter_mm)]
    return [row.id, *places, Decimal(f"{row.mean_probability:.4f}"), *(index + 1 for index in row.slices)]
