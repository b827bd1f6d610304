"""Downloads of the viewer: mask, lesions as JSON and CSV, pictures of every lesion."""

from __future__ import annotations

import io
import json
import zipfile

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metseg.csv_tables import csv_text
from metseg.files import temporary_folder
from metseg.imaging.geometry import Geometry
from metseg.imaging.io import mask_suffix, write_mask_like
from metseg.scoring.lesion_table import lesion_record
from metseg.serving.viewer.predictions import StudyPrediction
from metseg.serving.viewer.rendering import FIRST, Appearance, draw, to_png
from metseg.serving.viewer.slices import AXIAL, PLANES, Plane, Position, clipped
from metseg.serving.viewer.study import Study

DISCLAIMER = "metseg: research use only, not a medical device"
MOST_PICTURES = 100
"""Most lesions with a picture in the archive."""

_MARGIN, _TEXT_SIZE, _GREY = 6, 13, (190, 190, 190)


def mask_suffix_of(study: Study) -> str:
    """Return the suffix of `mask_file`: the study's, or `.nii.gz` for DICOM and samples."""
    return mask_suffix(study.original) if study.original is not None else ".nii.gz"


def mask_file(study: Study, prediction: StudyPrediction) -> bytes:
    """Return the mask on the study's grid, as a file with the suffix `mask_suffix_of`."""
    mask = prediction.mask.astype(np.uint8)
    with temporary_folder(name="viewer") as folder:
        path = folder / f"mask{mask_suffix_of(study)}"
        if study.original is not None:
            write_mask_like(path, mask, study.original)
        else:
            nibabel.save(_nifti(mask, study.geometry), path)  # type: ignore[attr-defined]
        return path.read_bytes()


def lesions_json(study: Study, prediction: StudyPrediction) -> bytes:
    """Return the lesions and the model, with the fields of `metseg predict`."""
    content = {
        "model": prediction.segmentation.description.summary(prediction.served.model),
        "version": prediction.served.version,
        "units": "mm" if study.geometry.spacing_known else "voxels",
        "lesions": [lesion_record(row) for row in prediction.lesions],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def lesions_csv(prediction: StudyPrediction) -> bytes:
    """Return one row a lesion; the centroid in LPS+ mm."""
    places = ("centroid_x_mm", "centroid_y_mm", "centroid_z_mm", "first_slice", "last_slice")
    measures = ("volume_mm3", "longest_axial_diameter_mm", "mean_probability")
    rows = [
        [row["id"], *row["centroid_mm"], *row["slices"], *(row[name] for name in measures)]
        for row in map(lesion_record, prediction.lesions)
    ]
    return csv_text([("id", *places, *measures), *rows]).encode()


def planes_png(study: Study, prediction: StudyPrediction | None, position: Position, appearance: Appearance) -> bytes:
    """Return the three planes through a position side by side, with letters of direction."""
    shown = [AXIAL] if study.flat else list(PLANES.values())
    pictures = [draw(study, plane, position[plane.axis], appearance, prediction, FIRST) for plane in shown]
    height = max(picture.shape[0] for picture in pictures) + 2 * (_TEXT_SIZE + _MARGIN)
    width = sum(picture.shape[1] + _MARGIN for picture in pictures) - _MARGIN
    sheet = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(sheet)
    pen.font = ImageFont.load_default(_TEXT_SIZE)
    left = 0
    for plane, picture in zip(shown, pictures, strict=True):
        top = (height - picture.shape[0]) // 2
        sheet.paste(Image.fromarray(picture), (left, top))
        if study.geometry.spacing_known:
            _write_letters(pen, plane, left, top, *picture.shape[1::-1])
        place = f"{plane.name} {position[plane.axis] + 1}/{study.shape[plane.axis]}"
        pen.text((left + _MARGIN, 0), place, _GREY)
        left += picture.shape[1] + _MARGIN
    version = f"{prediction.served.model} version {prediction.served.version} · " if prediction else ""
    pen.text((_MARGIN, height - _TEXT_SIZE - _MARGIN), version + DISCLAIMER, _GREY)
    return to_png(np.asarray(sheet))


def overlays_zip(study: Study, prediction: StudyPrediction, appearance: Appearance) -> bytes:
    """Return a PNG of the three planes through each lesion, the largest first."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for row in prediction.lesions[:MOST_PICTURES]:
            picture = planes_png(study, prediction, clipped(row.centroid_voxel, study.shape), appearance)
            archive.writestr(f"lesion-{row.id:03d}.png", picture)
        if not prediction.lesions:
            archive.writestr("no-lesion.txt", "The model marks no lesion in this study.\n")
    return buffer.getvalue()


def _nifti(mask: NDArray[np.uint8], geometry: Geometry) -> nibabel.Nifti1Image:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.array(geometry.affine)
    image = nibabel.Nifti1Image(np.ascontiguousarray(mask.transpose(2, 1, 0)), affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm" if geometry.spacing_known else "unknown")  # type: ignore[no-untyped-call]
    return image


def _write_letters(pen: ImageDraw.ImageDraw, plane: Plane, left: int, top: int, width: int, height: int) -> None:
    """Write the directions at the edges of a picture."""
    places = [
        (left + _MARGIN, top + height // 2, "lm"),
        (left + width - _MARGIN, top + height // 2, "rm"),
        (left + width // 2, top + _MARGIN, "mt"),
        (left + width // 2, top + height - _MARGIN, "mb"),
    ]
    for letter, (x, y, anchor) in zip(plane.letters, places, strict=True):
        pen.text((x, y), letter, (255, 255, 255), anchor=anchor)
