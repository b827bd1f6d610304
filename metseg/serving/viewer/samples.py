"""Sample studies: generated phantom heads, and the cases of a folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metseg.errors import DataError, UsageError
from metseg.imaging.geometry import Geometry, to_canonical
from metseg.imaging.io import bare_stem, is_image
from metseg.imaging.layouts import LayoutOptions, open_cohort
from metseg.phantom import phantom_case
from metseg.pseudonyms import pseudonyms_everywhere
from metseg.serving.viewer.study import Study
from metseg.serving.viewer.uploads import TRUTH, open_images, roles_of, truth_of

PHANTOM_SEED = 7
"""Seed of another cohort than that of `metseg run`: no model was trained on these heads."""
PHANTOMS = 8
_PHANTOM = "Phantom head"


@dataclass(frozen=True)
class Sample:
    """Sample study: `name` to show, `key` to open it."""

    name: str
    key: str


def phantom_samples() -> list[Sample]:
    """Return the samples of `open_phantom`."""
    return [Sample(f"{_PHANTOM} {number}", f"phantom:{number}") for number in range(1, PHANTOMS + 1)]


def open_phantom(sample: Sample, labels: Sequence[str]) -> Study:
    """Generate a phantom head with its true mask.

    Args:
        sample: from `phantom_samples`.
        labels: label values that are lesion.
    """
    case = phantom_case(PHANTOM_SEED, int(sample.key.rpartition(":")[2]))
    channels = {"t1n": case.t1n, "t2f": case.t2f, "t1c": case.t1c}
    canonical = [to_canonical(voxels, case.affine)[0] for voxels in channels.values()]
    segmentation, affine, _ = to_canonical(case.seg, case.affine)
    truth = truth_of(segmentation, labels, Path("seg"))
    return Study(
        sample.name, np.stack(canonical, axis=-1), tuple(channels), Geometry.of_canonical(affine, 1.0, True), truth
    )


class SampleFolder:
    """Cases of a folder: a cohort in one of the layouts, or image files without masks.

    Cases have the names of their folders, or pseudonyms with `METSEG_PSEUDONYMS=on`.
    """

    def __init__(self, root: Path, wanted: Sequence[str], labels: Sequence[str]) -> None:
        """Find the cases; raises MetsegError if the folder holds none with the channels."""
        self._wanted = tuple(wanted)
        numbers = [label for label in labels if label.isdecimal()]
        options = LayoutOptions(channels=self._wanted, labels=",".join(numbers) or "core")
        try:
            cohort = open_cohort(root, options=options)
        except (DataError, UsageError) as error:
            self._files = _cases_without_masks(root, self._wanted)
            if not self._files:
                raise error
            self._sources = {}
        else:
            self._files = {}
            self._sources = {case.case: case for case in cohort.cases}

    def samples(self) -> list[Sample]:
        """Return the samples."""
        names = [*self._sources, *self._files]
        return [Sample(name, f"case:{name}") for name in names]

    def open(self, sample: Sample) -> Study:
        """Read a case; raises DataError."""
        name = sample.key.removeprefix("case:")
        if name in self._sources:
            loaded = self._sources[name].load()
            return Study(name, loaded.image, self._wanted, loaded.geometry, loaded.mask > 0)
        return open_images(self._files[name], self._wanted, (), name)


def _cases_without_masks(root: Path, wanted: Sequence[str]) -> dict[str, list[tuple[Path, str | None]]]:
    """Return image files by case, the beginning of their names; none if names must be hidden by pseudonyms."""
    if pseudonyms_everywhere():
        return {}
    cases: dict[str, list[tuple[Path, str | None]]] = defaultdict(list)
    images = [path for path in sorted(root.rglob("*")) if is_image(path) and path.is_file()]
    for path, role in zip(images, roles_of([path.name for path in images], wanted), strict=True):
        if role is not None and role != TRUTH:
            stem = bare_stem(path.relative_to(root))
            cases[stem[: len(stem) - len(role)].rstrip("-_. ") or stem].append((path, role))
    return {name: files for name, files in cases.items() if set(wanted) <= {role for _, role in files}}
