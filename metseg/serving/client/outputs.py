"""What is written of a segmented case: the mask in its own format, an overlay to look at, lesions as JSON and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metseg.files import write_json, written_beside
from metseg.imaging.contours import write_outlines
from metseg.imaging.dicom.segmentation_writer import Finder, write_dicom_segmentation
from metseg.imaging.dicom.series import DicomOriginal
from metseg.imaging.io import mask_suffix, write_mask_like
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import apply_window, volume_window
from metseg.scoring.lesion_table import lesion_labels, lesion_record
from metseg.serving.client.inputs import ReadCase
from metseg.serving.client.segmentation_client import Segmentation

CSV_COLUMNS = (
    "case", "id", "x", "y", "z", "volume", "longest_axial_diameter", "mean_probability", "first_slice", "last_slice",
    "units",
)  # fmt: skip
"""Places are LPS+ millimetres and volumes mm³ where `units` is mm; else `(column, row, slice)` and voxels."""


@dataclass(frozen=True)
class Written:
    """The files of one case."""

    mask: Path
    overlay: Path


def suffix_of(read: ReadCase) -> str:
    """Suffix of the case's mask: that of its image, and `.dcm` for the SEG of a DICOM series."""
    return ".dcm" if isinstance(read.original, DicomOriginal) else mask_suffix(read.original)


def write_outputs(
    read: ReadCase, found: Segmentation, model_name: str, mask: Path, overlay: Path, *, patient: str | None
) -> Written:
    """Write the mask on the image's own grid, and a picture of the slices with most lesion.

    Args:
        read: the case.
        found: what the model found in it.
        model_name: as the server knows it.
        mask: file to write, with the suffix that `suffix_of` names.
        overlay: PNG to write.
        patient: of a DICOM SEG: what stands in place of the patient's name; None keeps what the images have.

    Raises:
        DataError: a source image is gone.
    """
    if isinstance(read.original, DicomOriginal):
        finder = Finder(model_name, str(found.version), str(found.description.get("metseg.version") or "0"))
        names = [f"Lesion {row.id}" for row in found.lesions]
        write_dicom_segmentation(
            mask, lesion_labels(found.mask), read.original, finder, patient=patient, descriptions=names
        )
    else:
        write_mask_like(mask, found.mask, read.original)
    raw = np.asarray(read.image[..., -1:], dtype=np.float32)
    window = volume_window(raw, PreprocessingSpecification(channels=(str(found.description["channels"][-1]),)))
    write_outlines(overlay, apply_window(raw, window)[..., 0], found.mask > 0)
    return Written(mask, overlay)


def record_of(case: str, read: ReadCase, found: Segmentation, **more: Any) -> dict[str, Any]:
    """A case as `lesions.json` holds it."""
    return {
        "case": case,
        **more,
        "version": found.version,
        "units": "mm" if read.geometry.spacing_known else "voxels",
        "voxels_at_threshold": found.voxels_at_threshold,
        "voxels_kept": int(np.count_nonzero(found.mask)),
        "lesions": [lesion_record(row) for row in found.lesions],
    }


def write_lesions(
    folder: Path, model_name: str, description: dict[str, Any], records: Sequence[dict[str, Any]]
) -> tuple[Path, Path]:
    """Write `lesions.json` and `lesions.csv`, the same lesions, to `folder`."""
    model = {name: description.get(name) for name in ("architecture", "channels", "threshold", "minimum_volume_mm3")}
    table, sheet = folder / "lesions.json", folder / "lesions.csv"
    write_json(table, {"model": {"name": model_name, **model}, "cases": list(records)})
    with written_beside(sheet) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        writer.writerows(_rows(records))
    return table, sheet


def _rows(records: Iterable[dict[str, Any]]) -> Iterable[list[Any]]:
    for record in records:
        for row in record["lesions"]:
            places = [f"{value:.2f}" for value in row["centroid_mm"]]
            measures = [f"{row['volume_mm3']:.2f}", f"{row['longest_axial_diameter_mm']:.2f}"]
            mean, slices = f"{row['mean_probability']:.4f}", [place + 1 for place in row["slices"]]
            yield [_cell(record["case"]), row["id"], *places, *measures, mean, *slices, record["units"]]


def _cell(text: str) -> str:
    """A name that a spreadsheet takes for a name, not for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text
