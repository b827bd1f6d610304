"""From what a mask file holds to 0 and 1."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, UsageError
from metseg.imaging.io.pictures import is_grey, is_lossy, read_picture

LOSSY_THRESHOLD = 127
LABEL_SETS = {"core": (1, 3), "whole": (1, 2, 3), "enhancing": (3,)}
"""BraTS labels: 1 necrotic core, 2 oedema and infiltration, 3 enhancing; 4, the resection cavity, is no lesion."""

KNOWN_LABELS = (0, 1, 2, 3, 4)


def read_mask_picture(path: Path, threshold: int | None) -> tuple[NDArray[np.uint8], bool]:
    """Read a mask picture.

    Args:
        path: the picture, of 0 and 1, or of 0 and 255.
        threshold: grey value above which a picture of other values counts as lesion; None refuses it, unless its
            format smears values (JPEG), where `LOSSY_THRESHOLD` is taken.

    Returns:
        uint8 `(height, width)` of 0 and 1, and whether a lossy mask was cut at `LOSSY_THRESHOLD` unasked.

    Raises:
        DataError: the picture has colours, or grey values and no threshold.
    """
    return lesion_of_greys(read_picture(path), path, threshold)


def lesion_of_greys(array: NDArray[np.generic], path: Path, threshold: int | None) -> tuple[NDArray[np.uint8], bool]:
    """What `read_mask_picture` gives, from the pixels `(height, width[, 3])` of the picture or page at `path`."""
    if not is_grey(array):
        raise DataError(f"{path}: a mask is grey; this picture has colours. Write the lesions as 255 on 0.")
    plane = array if array.ndim == 2 else array[..., 0]
    values = np.unique(plane)
    found = set(values.tolist())
    if found <= {0, 1} or found <= {0, 255}:
        return (plane != 0).astype(np.uint8), False
    if threshold is not None:
        return (np.asarray(plane, dtype=np.float64) > threshold).astype(np.uint8), False
    if is_lossy(path):
        return (np.asarray(plane, dtype=np.float64) > LOSSY_THRESHOLD).astype(np.uint8), True
    shown = ", ".join(f"{value:g}" for value in values[:6].tolist()) + (", …" if len(values) > 6 else "")
    raise DataError(
        f"{path}: a mask holds 0 and 1, or 0 and 255; this one holds {len(values)} values ({shown}). Where lesion is "
        f"what is brighter than half, say data_mask_threshold={LOSSY_THRESHOLD}; otherwise export the mask anew."
    )


def lesion_labels(labels: str) -> tuple[int, ...]:
    """Label values that `labels` names: `core`, `whole`, `enhancing`, or comma-separated positive numbers."""
    if labels in LABEL_SETS:
        return LABEL_SETS[labels]
    parts = [part.strip() for part in labels.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(
            f"data_labels={labels!r}: expected {', '.join(LABEL_SETS)}, or positive numbers with commas, such as 1,3."
        )
    return tuple(sorted({int(part) for part in parts}))


def select_labels(
    segmentation: NDArray[np.generic], lesion: Iterable[int], path: Path, known: Iterable[int] | None = KNOWN_LABELS
) -> NDArray[np.uint8]:
    """Mask of the voxels whose label is one of `lesion`.

    Args:
        segmentation: label values, whole numbers in any dtype.
        lesion: values that count.
        path: the file, for the message.
        known: values that may occur besides; None for any whole number.

    Returns:
        uint8 of the same shape, 0 and 1.

    Raises:
        DataError: a label is neither in `lesion` nor in `known`.
    """
    values = [float(value) for value in np.unique(segmentation).tolist()]
    if known is None:
        strange = [value for value in values if value < 0 or not value.is_integer()]
        expected = "whole numbers are expected"
    else:
        strange = sorted(set(values) - {float(value) for value in (*lesion, *known)})
        expected = "BraTS has 1 necrotic core, 2 oedema, 3 enhancing, 4 resection cavity"
    if strange:
        shown = ", ".join(f"{value:g}" for value in strange[:6]) + (", …" if len(strange) > 6 else "")
        raise DataError(
            f"{path}: labels {shown} are unknown; {expected}. Name what is lesion, such as data_labels=1,3, and export "
            "the segmentation without resampled values."
        )
    return np.isin(segmentation, list(lesion)).astype(np.uint8)


def labels_note(labels: str, layout: str) -> list[str]:
    """A note that label values were named for masks that have none; a `UsageError` where they are no labels at all."""
    if labels in ("", "core"):
        return []
    lesion_labels(labels)
    return [
        f"data_labels={labels} was not applied: masks of {layout} are lesion or not, and all that is not 0 is lesion"
    ]


def is_binary(segmentation: NDArray[np.generic]) -> bool:
    """Whether a mask holds nothing but 0 and 1, or nothing but 0 and 255."""
    found = {float(value) for value in np.unique(segmentation).tolist()}
    return found <= {0.0, 1.0} or found <= {0.0, 255.0}
