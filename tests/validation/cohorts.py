"""Small cohorts, in memory, that are sound but for what a test breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from metseg.dataset.image_statistics import slice_statistics
from metseg.dataset.manifest import CaseEntry, Manifest

CHANNELS = ("t1n", "t1c")
SPLIT_OF = {
    case: split for split, cases in (("train", "abcde"), ("validation", "fghij"), ("test", "klmno")) for case in cases
}
SHAPE = (4, 24, 24, 2)
Cohort = tuple[Manifest, pandas.DataFrame]
Images = dict[str, NDArray[np.float32]]


def images(offset: int = 0) -> Images:
    """Float images of the cases a to o, noise on zero background; the last slice is empty, as above the head."""
    made = {}
    for seed, case in enumerate(SPLIT_OF, offset):
        made[case] = np.zeros(SHAPE, np.float32)
        made[case][:3, 2:22, 2:22] = np.random.default_rng(seed).normal(100, 20, (3, 20, 20, 2))
    return made


def cohort(of: Images) -> Cohort:
    """A sound manifest and the statistics of `of`; every case has one lesion of 2 voxels."""
    entries, rows = [], []
    for case, image in of.items():
        mask = np.zeros(image.shape[:3], np.uint8)
        mask[1, 12, 12:14] = 1
        rows += slice_statistics(case, CHANNELS, ("0", "1", "2", "3"), image, mask)
        entries.append(
            CaseEntry(case, f"patient {case}", "000", SPLIT_OF[case], False, *SHAPE[:3], (3.0, 1.0, 1.0), 2, 1, ())
        )
    manifest = Manifest("data", "0.dir", "brats-mets", list(CHANNELS), ["1", "3"], ["a <note>"], entries)
    return manifest, pandas.DataFrame(rows).assign(skull_stripped=True, tilt_degrees=0.0)


@cache
def _sound() -> Cohort:
    return cohort(images())


def sound() -> Cohort:
    """A cohort that meets every expectation."""
    manifest, rows = _sound()
    return manifest, rows.copy()


def with_entry(case: str, **changes: Any) -> Callable[[], Cohort]:
    """A sound cohort whose manifest says something else of one case."""

    def make() -> Cohort:
        manifest, rows = sound()
        entries = [replace(entry, **changes) if entry.case == case else entry for entry in manifest.cases]
        return replace(manifest, cases=entries), rows

    return make


def with_entries(splits: tuple[str, ...] = ("train", "validation", "test"), **changes: Any) -> Callable[[], Cohort]:
    """A sound cohort whose manifest says something else of all cases of some splits."""

    def make() -> Cohort:
        manifest, rows = sound()
        entries = [replace(entry, **changes) if entry.split in splits else entry for entry in manifest.cases]
        return replace(manifest, cases=entries), rows

    return make


def with_statistics(case: str, channel: str = "", **changes: Any) -> Callable[[], Cohort]:
    """A sound cohort whose statistics say something else of one case, or of one channel of it."""

    def make() -> Cohort:
        manifest, rows = sound()
        rows = rows.astype(dict.fromkeys(changes, object))
        for index in rows.index[(rows["case"] == case) & ((rows["channel"] == channel) | (channel == ""))]:
            for column, value in changes.items():
                rows.at[index, column] = value
        return manifest, rows.infer_objects()

    return make


def with_images(change: Callable[[Images], None]) -> Callable[[], Cohort]:
    """A cohort with other pixels."""

    def make() -> Cohort:
        of = images()
        change(of)
        return cohort(of)

    return make


def put(case: str, where: Any, value: Any) -> Callable[[Images], None]:
    """Change some pixels of a case."""

    def change(of: Images) -> None:
        of[case][where] = value

    return change


def copy_slice(source: str, target: str, noise: float = 0.0) -> Callable[[Images], None]:
    """Copy a slice of one case into another, with a little noise on the head."""

    def change(of: Images) -> None:
        of[target][2] = of[source][1]
        of[target][2, 2:22, 2:22] += noise * np.random.default_rng(99).normal(0, 1, (20, 20, 2)).astype(np.float32)

    return change
