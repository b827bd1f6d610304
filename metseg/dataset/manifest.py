"""The manifest of a cohort: its source, its version, and the split of each case."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from metseg.errors import DataError
from metseg.records import Record


@dataclass(frozen=True)
class CaseEntry(Record):
    """One timepoint of one patient.

    Attributes:
        case: its name, and that of its folder in `cases/`.
        patient: name of the patient.
        timepoint: scan of the patient; empty if the file names carry none.
        split: `train`, `validation` or `test`.
        forced: whether something other than the patient's hash decided the split.
        slices, height, width: extents in voxels, canonical.
        spacing: mm along `(slices, height, width)`; None if the format carries none.
        lesion_voxels: voxels that the mask marks.
        lesion_slices: slices with at least one of them.
        sources: files it was read from, relative to the cohort's root.
    """

    case: str
    patient: str
    timepoint: str
    split: str
    forced: bool
    slices: int
    height: int
    width: int
    spacing: tuple[float, float, float] | None
    lesion_voxels: int
    lesion_slices: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Manifest(Record):
    """One cohort at one version.

    Attributes:
        reference: as the user gave it.
        version: DVC's md5 of the folder, `….dir`.
        layout: name of the layout it was read in.
        channels: names of the image channels, in order.
        labels: label values that the mask marks, or `lesion`.
        notes: remarks on how it was read.
        cases: by name in rising order.
        resolved: the reference pinned to one version: by a commit, or the hash of a listing.
        commit: full Git commit of data under DVC; empty for other references.
    """

    reference: str
    version: str
    layout: str
    channels: list[str]
    labels: list[str]
    notes: list[str]
    cases: list[CaseEntry]
    resolved: str = ""
    commit: str = ""

    def patients(self, split: str | None = None) -> tuple[str, ...]:
        """Return the patients of a split, or of all, by name in rising order."""
        return tuple(sorted({entry.patient for entry in self.cases if split in (None, entry.split)}))

    def cases_in(self, split: str) -> list[CaseEntry]:
        """Return the cases of a split."""
        return [entry for entry in self.cases if entry.split == split]

    def assignments(self) -> dict[str, str]:
        """Return the split of each patient, which stays when the cohort grows."""
        return {entry.patient: entry.split for entry in self.cases}

    def digest(self) -> str:
        """Return the SHA-256 of version, channels, labels and splits, which decide a training run."""
        decisive = [self.version, self.channels, self.labels, [(c.case, c.patient, c.split) for c in self.cases]]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()

    @classmethod
    def upgraded(cls, values: dict[str, Any], format: int) -> dict[str, object]:
        """Accept the manifests of version 0.1.0, which state their schema.

        Raises:
            DataError: the schema is another one.
        """
        if values["schema"] != 2:
            raise DataError(f"the manifest has schema {values['schema']}, expected 2: run ingest again")
        return values
