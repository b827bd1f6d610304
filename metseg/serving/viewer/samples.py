"""Sample studies: generated phantom heads, and the cases of a folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from metseg.errors import DataError, UsageError
from metseg.imaging.dicom.headers import files_under
from metseg.imaging.geometry import Geometry, to_canonical
from metseg.imaging.io import bare_stem, is_image
from metseg.imaging.layouts import LayoutOptions, open_cohort
from metseg.imaging.layouts.base import CaseSource
from metseg.phantom import phantom_case
from metseg.pseudonyms import pseudonyms_everywhere
from metseg.serving.viewer.study import Study
from metseg.serving.viewer.uploads import TRUTH, open_images, roles_of, truth_of

PHANTOM_SEED = 7
"""Seed of another cohort than that of `metseg run`: no model was trained on these heads."""
PHANTOMS = 8

Samples = dict[str, Callable[[], Study]]
"""Functions that open the sample studies, by title."""


def phantom_samples(labels: Sequence[str]) -> Samples:
    """Return phantom heads with true masks; `labels` are the label values that are lesion."""
    return {f"Phantom head {number}": partial(_open_phantom, number, labels) for number in range(1, PHANTOMS + 1)}


def folder_samples(root: Path, wanted: Sequence[str], labels: Sequence[str]) -> Samples:
    """Return the cases of a folder: a cohort in a layout, or images without masks.

    Cases have the names of their folders, or pseudonyms with `METSEG_PSEUDONYMS=on`.

    Args:
        root: the folder.
        wanted: channels of the model, in order.
        labels: label values that are lesion.

    Raises:
        MetsegError: the folder holds no case with the channels.
    """
    numbers = [label for label in labels if label.isdecimal()]
    options = LayoutOptions(channels=tuple(wanted), labels=",".join(numbers) or "core")
    try:
        cohort = open_cohort(root, options=options)
    except (DataError, UsageError):
        cases = _cases_without_masks(root, wanted)
        if not cases:
            raise
        return {name: partial(open_images, files, wanted, (), name) for name, files in cases.items()}
    return {case.case: partial(_open_case, case, tuple(wanted)) for case in cohort.cases}


def _open_phantom(number: int, labels: Sequence[str]) -> Study:
    case = phantom_case(PHANTOM_SEED, number)
    channels = {"t1n": case.t1n, "t2f": case.t2f, "t1c": case.t1c}
    image = np.stack([to_canonical(voxels, case.affine)[0] for voxels in channels.values()], axis=-1)
    segmentation, affine, _ = to_canonical(case.seg, case.affine)
    geometry = Geometry.of_canonical(affine, 1.0, True)
    return Study(
        f"Phantom head {number}", image, tuple(channels), geometry, truth_of(segmentation, labels, Path("seg"))
    )


def _open_case(case: CaseSource, channels: tuple[str, ...]) -> Study:
    loaded = case.load()
    return Study(case.case, loaded.image, channels, loaded.geometry, loaded.mask > 0)


def _cases_without_masks(root: Path, wanted: Sequence[str]) -> dict[str, list[tuple[Path, str | None]]]:
    """Return image files by case, as in their names; none if names are hidden."""
    if pseudonyms_everywhere():
        return {}
    cases: dict[str, list[tuple[Path, str | None]]] = defaultdict(list)
    images = [path for path in files_under(root) if is_image(path)]
    for path, role in zip(images, roles_of([path.name for path in images], wanted), strict=True):
        if role is not None and role != TRUTH:
            stem = bare_stem(path.relative_to(root))
            cases[stem[: len(stem) - len(role)].rstrip("-_. ") or stem].append((path, role))
    return {name: files for name, files in cases.items() if set(wanted) <= {role for _, role in files}}
