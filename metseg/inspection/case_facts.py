"""Facts about one case, which is read once."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from metseg.connected_components import label_components
from metseg.dataset.image_statistics import head_hulls
from metseg.errors import DataError
from metseg.imaging.io import is_image, is_volume, read_affine, read_image
from metseg.imaging.layouts import CaseSource, LoadedCase
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import apply_window, volume_window

MASK_NAME = re.compile(
    r"(^|[/_.-])(seg|segmentation|mask|masks|label|labels|labelsTr|labelsTs)([/_.-]|$)", re.IGNORECASE
)
PERCENTILES = (1.0, 50.0, 99.0)
SAMPLED = 500_000
"""Approximate number of voxels of a channel for its percentiles."""

MARGIN = 4
"""Pixels around the head in a preview."""

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Preview:
    """The slice of a case with most lesion, cropped to the head.

    Without lesion it is the middle slice.

    Attributes:
        image: windowed grey values uint8 `(height, width, channels)`.
        mask: bool `(height, width)`.
        number: of the slice, from 1.
        slices: of the case.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    number: int
    slices: int


@dataclass(frozen=True)
class CaseFacts:
    """Facts about one case.

    Attributes:
        case, patient, timepoint: as the layout names them.
        shape: `(slices, height, width)`, in canonical orientation.
        spacing: mm along the same axes; None if the format has none.
        orientation: of the first file on disk: directions of its columns, rows and slices, such as `RAS`.
        dtype: of the voxels on disk.
        intensities: by channel: minimum, 1st, 50th and 99th percentile, maximum of the finite values.
        nonfinite: number of NaN and infinite values.
        labels: voxels of each value in the mask files; empty if the masks are no image files, as in DICOM.
        lesion_voxels: of each 26-connected lesion, largest first.
        lesion_slices: number of slices with lesion.
        thresholded: lossy masks that were thresholded.
        resampled: masks that were resampled onto their image's grid.
    """

    case: str
    patient: str
    timepoint: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None
    orientation: str
    dtype: str
    intensities: dict[str, tuple[float, ...]]
    nonfinite: int
    labels: dict[float, int]
    lesion_voxels: tuple[int, ...]
    lesion_slices: int
    thresholded: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()

    @property
    def voxel(self) -> float:
        """Volume of a voxel in mm³; 1 if the spacing is unknown."""
        return float(np.prod(self.spacing)) if self.spacing else 1.0

    @property
    def volumes(self) -> list[float]:
        """Volume of each lesion in mm³; in voxels if the spacing is unknown."""
        return [count * self.voxel for count in self.lesion_voxels]

    @property
    def diameters(self) -> list[float]:
        """Diameter of the ball with each lesion's volume.

        The unit is mm, or voxels if the spacing is unknown.
        """
        return [(6 * volume / np.pi) ** (1 / 3) for volume in self.volumes]


def inspect_case(
    root: Path, source: CaseSource, channels: tuple[str, ...], preview: bool
) -> tuple[CaseFacts, Preview | None]:
    """Read a case and collect facts about it.

    Args:
        root: folder of the cohort, the base of `source.sources`.
        source: the case.
        channels: names of its channels, in order.
        preview: True makes a picture.

    Raises:
        DataError: the case cannot be read; the message names the file.
    """
    loaded = source.load()
    image, mask = loaded.image, loaded.mask > 0
    components = label_components(mask)
    sizes = np.sort(np.bincount(components.ravel())[1:])[::-1]
    facts = CaseFacts(
        case=source.case,
        patient=source.patient,
        timepoint=source.timepoint,
        shape=(mask.shape[0], mask.shape[1], mask.shape[2]),
        spacing=loaded.geometry.spacing if loaded.geometry.spacing_known else None,
        orientation=_orientation(root, source.sources),
        dtype=str(image.dtype),
        intensities={name: _intensities(image[..., place]) for place, name in enumerate(channels)},
        nonfinite=int(image.size - np.count_nonzero(np.isfinite(image))),
        labels=_labels(root, source.sources),
        lesion_voxels=tuple(int(size) for size in sizes),
        lesion_slices=int(mask.any(axis=(1, 2)).sum()),
        thresholded=loaded.thresholded,
        resampled=loaded.resampled,
    )
    return facts, _preview(loaded, mask) if preview else None


def _intensities(voxels: NDArray[np.generic]) -> tuple[float, ...]:
    finite = voxels[np.isfinite(voxels)]
    if not finite.size:
        return (float("nan"),) * (len(PERCENTILES) + 2)
    middle = np.percentile(finite[:: 1 + finite.size // SAMPLED], PERCENTILES).tolist()
    return (float(finite.min()), *middle, float(finite.max()))


def mask_files(root: Path, sources: tuple[str, ...]) -> list[Path]:
    """Return the mask files of a case.

    The list is empty if the sources are no image files, as in DICOM.
    """
    masks = [name for name in sources if MASK_NAME.search(name)]
    return [path for name in masks or sources[-1:] if (path := root / name).is_file() and is_image(path)]


def _labels(root: Path, sources: tuple[str, ...]) -> dict[float, int]:
    """Count the voxels of each value in the mask files.

    In a coloured mask, the first colour counts.
    """
    counts: Counter[float] = Counter()
    for path in mask_files(root, sources):
        array = read_image(path)[0]
        values, voxels = np.unique(array[..., 0] if array.ndim == 4 else array, return_counts=True)
        counts.update(dict(zip(values.tolist(), voxels.tolist(), strict=True)))
    return dict(sorted(counts.items()))


def _orientation(root: Path, sources: tuple[str, ...]) -> str:
    """Return the axis directions in the first volume's header, such as `RAS`."""
    import nibabel

    path = next((root / name for name in sources if not MASK_NAME.search(name)), None)
    if path is None or not path.is_file():
        return UNKNOWN
    if not is_volume(path):
        return "picture"
    to_letters: Any = nibabel.aff2axcodes  # it has no types
    try:
        return "".join(to_letters(read_affine(path)))
    except (DataError, OSError):
        return UNKNOWN


def _preview(loaded: LoadedCase, mask: NDArray[np.bool_]) -> Preview:
    area = mask.sum(axis=(1, 2))
    place = int(area.argmax()) if area.any() else len(mask) // 2
    image = np.asarray(loaded.image, np.float32)
    finite = np.isfinite(image)
    if not finite.all():
        image = np.where(finite, image, image[finite].min() if finite.any() else np.float32(0))
    window = volume_window(image, PreprocessingSpecification(channels=()))
    grey = apply_window(image[place], window)
    box = _crop(head_hulls(image[place : place + 1])[0] | mask[place])
    return Preview(grey[box], mask[place][box], place + 1, len(mask))


def _crop(used: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns of the used pixels, with a margin.

    If no pixel is used, return all of them.
    """
    left, top, width, height = cv2.boundingRect(used.astype(np.uint8))
    if not width:
        return slice(None), slice(None)
    rows, columns = (
        slice(max(0, top - MARGIN), top + height + MARGIN),
        slice(max(0, left - MARGIN), left + width + MARGIN),
    )
    return rows, columns
