"""The manifest of a cohort: what was read, at which version, and which split each case is in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from metseg.errors import DataError
from metseg.files import write_json

SCHEMA = 2


@dataclass(frozen=True)
class CaseEntry:
    """One timepoint of one patient.

    Attributes:
        case: its name, that of its folder in `cases/`.
        patient: whom it belongs to.
        timepoint: which scan of the patient; empty where the names do not say.
        split: `train`, `validation` or `test`.
        forced: whether something other than the patient's hash decided the split.
        slices, height, width: extents in voxels, canonical.
        spacing: mm along `(slices, height, width)`; None where the format carries none.
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
class Manifest:
    """One cohort at one version.

    Attributes:
        reference: what the user named.
        version: DVC's md5 of the folder, `….dir`.
        layout: name of the layout it was read in.
        channels: names of the image channels, in order.
        labels: what the mask marks: label values, or `lesion`.
        notes: what a person should know about how it was read.
        cases: by name in rising order.
        resolved: the reference with what moves replaced by what does not: a commit, or the hash of a listing.
        commit: full Git commit of data under DVC; empty for other references.
    """

    reference: str
    version: str
    layout: str
    channels: list[str]
    labels: list[str]
    notes: list[str]
    cases: list[CaseEntry]
    schema: int = SCHEMA
    resolved: str = ""
    commit: str = ""

    def patients(self, split: str | None = None) -> tuple[str, ...]:
        """Patients of a split, or of all of them, by name in rising order."""
        return tuple(sorted({entry.patient for entry in self.cases if split in (None, entry.split)}))

    def cases_in(self, split: str) -> list[CaseEntry]:
        """Cases of a split."""
        return [entry for entry in self.cases if entry.split == split]

    def assignments(self) -> dict[str, str]:
        """Split of each patient, to be kept when the cohort grows."""
        return {entry.patient: entry.split for entry in self.cases}

    def digest(self) -> str:
        """SHA-256 of what decides a training: version, channels, labels and the splits of the cases."""
        decisive = [self.version, self.channels, self.labels, [(c.case, c.patient, c.split) for c in self.cases]]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the manifest as JSON, beside and renamed."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read what `write` wrote; a `DataError` says what is wrong with another file."""
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            schema = content["schema"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: this is no manifest ({error}). Run ingest again.") from error
        if schema != SCHEMA:
            raise DataError(f"{path}: the manifest has schema {schema}, this metseg reads {SCHEMA}. Run ingest again.")
        try:
            content["cases"] = [entry_from_json(case) for case in content["cases"]]
            return cls(**{field.name: content[field.name] for field in fields(cls)})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: the manifest is incomplete ({error!r}). Run ingest again.") from error


def entry_from_json(content: dict[str, Any]) -> CaseEntry:
    """The entry that `dataclasses.asdict` and JSON made `content` of."""
    spacing = content["spacing"]
    known = {field.name: content[field.name] for field in fields(CaseEntry)}
    known["spacing"] = None if spacing is None else (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    known["sources"] = tuple(content["sources"])
    return CaseEntry(**known)
