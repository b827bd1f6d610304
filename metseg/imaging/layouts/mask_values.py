"""Convert the values of a mask file to 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, UsageError
from metseg.imaging.io.raster_images import is_grey, is_lossy

LOSSY_THRESHOLD = 127
LABEL_SETS = {"core": (1, 3), "whole": (1, 2, 3), "enhancing": (3,)}
"""BraTS labels: 1 necrotic core, 2 oedema and infiltration, 3 enhancing; 4, the resection cavity, is no lesion."""

KNOWN_LABELS = (0, 1, 2, 3, 4)


def lesion_of_greys(array: NDArray[np.generic], path: Path, threshold: int | None) -> tuple[NDArray[np.uint8], bool]:
    """Return the mask of a picture of 0 and 1, or of 0 and 255.

    Args:
        array: pixels `(height, width[, 3])` of the picture or page.
        path: the file, for messages.
        threshold: grey value above which a picture of other values counts as lesion; None refuses it, except a lossy
            one (JPEG), which is cut at `LOSSY_THRESHOLD`.

    Returns:
        uint8 `(height, width)` of 0 and 1, and whether a lossy mask was cut without a threshold.

    Raises:
        DataError: the picture has colours, or grey values and no threshold.

    >>> lesion_of_greys(np.array([[0, 255]]), Path("mask.png"), None)[0]
    array([[0, 1]], dtype=uint8)
    """
    if not is_grey(array):
        raise DataError(f"{path}: a mask is grey; this picture has colours. Write the lesions as 255 on 0.")
    plane = array if array.ndim == 2 else array[..., 0]
    if is_binary(plane):
        return (plane != 0).astype(np.uint8), False
    if threshold is not None:
        return (np.asarray(plane, dtype=np.float64) > threshold).astype(np.uint8), False
    if is_lossy(path):
        return (np.asarray(plane, dtype=np.float64) > LOSSY_THRESHOLD).astype(np.uint8), True
    values = np.unique(plane)
    raise DataError(
        f"{path}: a mask holds 0 and 1, or 0 and 255; this one holds {len(values)} values ({_shown(values.tolist())}). "
        f"If lesion is brighter than half, set data_mask_threshold={LOSSY_THRESHOLD}; otherwise export the mask again."
    )


def lesion_labels(labels: str) -> tuple[int, ...]:
    """Parse label values: `core`, `whole`, `enhancing`, or comma-separated positive numbers.

    >>> lesion_labels("core"), lesion_labels("4, 2")
    ((1, 3), (2, 4))
    """
    if labels in LABEL_SETS:
        return LABEL_SETS[labels]
    parts = [part.strip() for part in labels.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(
            f"data_labels={labels!r}: expected {', '.join(LABEL_SETS)}, or positive numbers with commas, such as 1,3."
        )
    return tuple(sorted({int(part) for part in parts}))


@dataclass(frozen=True)
class Labelling:
    """Label values of a mask.

    Attributes:
        lesion: values that are lesion; empty if every value other than 0 is.
        known: other values that may occur; None for any whole number.
    """

    lesion: tuple[int, ...] = ()
    known: tuple[int, ...] | None = KNOWN_LABELS

    @property
    def names(self) -> tuple[str, ...]:
        """Meaning of the mask in the manifest."""
        return tuple(map(str, self.lesion)) or ("lesion",)

    def select(self, segmentation: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
        """Return the mask of the voxels whose label is lesion.

        Args:
            segmentation: label values, whole numbers in any dtype.
            path: the file, for the message.

        Returns:
            uint8 of the same shape, 0 and 1.

        Raises:
            DataError: a label is neither in `lesion` nor in `known`.

        >>> Labelling((1, 3)).select(np.array([0, 1, 2, 3]), Path("seg.nii"))
        array([0, 1, 0, 1], dtype=uint8)
        """
        if not self.lesion:
            return np.asarray(segmentation != 0, dtype=np.uint8)
        values = [float(value) for value in np.unique(segmentation).tolist()]
        if self.known is None:
            strange = [value for value in values if value < 0 or not value.is_integer()]
            expected = "whole numbers are expected"
        else:
            strange = [value for value in values if value not in (*self.lesion, *self.known)]
            expected = "BraTS has 1 necrotic core, 2 oedema, 3 enhancing, 4 resection cavity"
        if strange:
            raise DataError(
                f"{path}: labels {_shown(strange)} are unknown; {expected}. Name the labels of lesion, such as "
                "data_labels=1,3, and export the segmentation without resampled values."
            )
        return np.isin(segmentation, self.lesion).astype(np.uint8)


def labels_note(labels: str, layout: str) -> list[str]:
    """Return a note if `labels` has no effect on binary masks.

    Raises:
        UsageError: `labels` is invalid.

    Example:
        >>> labels_note("core", "tcga-lgg")
        []
        >>> labels_note("whole", "tcga-lgg")
        ['data_labels=whole was not applied: masks of tcga-lgg are lesion or not, and all that is not 0 is lesion']
    """
    if labels in ("", "core"):
        return []
    lesion_labels(labels)
    return [
        f"data_labels={labels} was not applied: masks of {layout} are lesion or not, and all that is not 0 is lesion"
    ]


def is_binary(segmentation: NDArray[np.generic]) -> bool:
    """Return True if a mask contains only 0 and 1, or only 0 and 255.

    Example:
        >>> is_binary(np.array([0, 255])), is_binary(np.array([0, 1, 255])), is_binary(np.array([0, 3]))
        (True, False, False)
    """
    values = set(np.unique(segmentation).tolist())
    return values <= {0, 1} or values <= {0, 255}


def _shown(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values[:6]) + (", …" if len(values) > 6 else "")
