"""Files that the viewer gives away: the mask, the lesions as JSON and CSV, pictures of every lesion."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metseg.imaging.geometry import Geometry
from metseg.imaging.io import mask_suffix, write_mask_like
from metseg.scoring.lesion_table import lesion_record
from metseg.serving.viewer.compositing import FIRST, to_png
from metseg.serving.viewer.predictions import Answer
from metseg.serving.viewer.rendering import Look, draw
from metseg.serving.viewer.slices import AXIAL, PLANES, Plane, Position, clipped
from metseg.serving.viewer.study import Study

DISCLAIMER = "metseg: research use only, not a medical device"
MOST_PICTURES = 100
"""Lesions that get a picture of their own in the archive."""

_MARGIN, _TEXT_SIZE, _GREY = 6, 13, (190, 190, 190)


def mask_suffix_of(study: Study) -> str:
    """The suffix of `mask_file`: the study's own, that of NIfTI where it was DICOM or a sample."""
    return mask_suffix(study.original) if study.original is not None else ".nii.gz"


def mask_file(study: Study, answer: Answer) -> bytes:
    """The mask on the study's own grid, voxel for voxel, as a file of the format that `mask_suffix_of` names."""
    mask = answer.mask.astype(np.uint8)
    with TemporaryDirectory(prefix="metseg-viewer-") as folder:
        path = Path(folder) / f"mask{mask_suffix_of(study)}"
        if study.original is not None:
            write_mask_like(path, mask, study.original)
        else:
            nibabel.save(_nifti(mask, study.geometry), path)  # type: ignore[attr-defined]
        return path.read_bytes()


def lesions_json(study: Study, answer: Answer) -> bytes:
    """The lesions with what found them, in the words of `metseg predict`."""
    names = ("architecture", "channels", "threshold", "minimum_volume_mm3")
    model = {"name": answer.served.model, **{name: answer.description.get(name) for name in names}}
    content = {
        "model": model,
        "version": answer.served.version,
        "units": "mm" if study.geometry.spacing_known else "voxels",
        "lesions": [lesion_record(row) for row in answer.lesions],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def lesions_csv(answer: Answer) -> bytes:
    """One row a lesion; the centroid in LPS+ mm."""
    text = io.StringIO()
    writer = csv.writer(text)
    places = ("centroid_x_mm", "centroid_y_mm", "centroid_z_mm", "first_slice", "last_slice")
    writer.writerow(["id", *places, "volume_mm3", "longest_axial_diameter_mm", "mean_probability"])
    for row in map(lesion_record, answer.lesions):
        measures = [row[name] for name in ("volume_mm3", "longest_axial_diameter_mm", "mean_probability")]
        writer.writerow([row["id"], *row["centroid_mm"], *row["slices"], *measures])
    return text.getvalue().encode()


def planes_png(study: Study, answer: Answer | None, position: Position, look: Look) -> bytes:
    """The three planes through a position beside each other, with letters of direction."""
    return to_png(_three_planes(study, answer, position, look))


def overlays_zip(study: Study, answer: Answer, look: Look) -> bytes:
    """A PNG of the three planes through each lesion, the largest first."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for row in answer.lesions[:MOST_PICTURES]:
            picture = planes_png(study, answer, clipped(row.centroid_voxel, study.shape), look)
            archive.writestr(f"lesion-{row.id:03d}.png", picture)
        if not answer.lesions:
            archive.writestr("no-lesion.txt", "The model marks no lesion in this study.\n")
    return buffer.getvalue()


def _nifti(mask: NDArray[np.uint8], geometry: Geometry) -> nibabel.Nifti1Image:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.array(geometry.affine)
    image = nibabel.Nifti1Image(np.ascontiguousarray(mask.transpose(2, 1, 0)), affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm" if geometry.spacing_known else "unknown")  # type: ignore[no-untyped-call]
    return image


def _three_planes(study: Study, answer: Answer | None, position: Position, look: Look) -> NDArray[np.uint8]:
    shown = [AXIAL] if study.flat else list(PLANES.values())
    pictures = [draw(study, plane, position[plane.axis], look, answer, FIRST) for plane in shown]
    height = max(picture.shape[0] for picture in pictures) + 2 * (_TEXT_SIZE + _MARGIN)
    width = sum(picture.shape[1] + _MARGIN for picture in pictures) - _MARGIN
    sheet = Image.new("RGB", (width, height))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT_SIZE)
    left = 0
    for plane, picture in zip(shown, pictures, strict=True):
        top = (height - picture.shape[0]) // 2
        sheet.paste(Image.fromarray(picture), (left, top))
        _write_letters(pen, font, plane, study.geometry.spacing_known, (left, top, *picture.shape[1::-1]))
        place = f"{plane.name} {position[plane.axis] + 1}/{study.shape[plane.axis]}"
        pen.text((left + _MARGIN, 0), place, _GREY, font)
        left += picture.shape[1] + _MARGIN
    version = f"{answer.served.model} version {answer.served.version} · " if answer else ""
    pen.text((_MARGIN, height - _TEXT_SIZE - _MARGIN), version + DISCLAIMER, _GREY, font)
    return np.asarray(sheet)


def _write_letters(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    plane: Plane,
    known: bool,
    frame: tuple[int, int, int, int],
) -> None:
    """Directions at the picture's edges; none where the file does not say how the patient lies."""
    if not known:
        return
    left, top, width, height = frame
    places = [
        (left + _MARGIN, top + height // 2, "lm"),
        (left + width - _MARGIN, top + height // 2, "rm"),
        (left + width // 2, top + _MARGIN, "mt"),
        (left + width // 2, top + height - _MARGIN, "mb"),
    ]
    for letter, (x, y, anchor) in zip(plane.letters, places, strict=True):
        pen.text((x, y), letter, (255, 255, 255), font, anchor)
