"""Any layout with hashed names of patients, cases and files, in cases and messages."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from metseg.errors import DataError, UsageError
from metseg.files import data_files
from metseg.imaging.layouts.base import CaseSource, LoadedCase, SourceCohort, natural
from metseg.pseudonyms import Pseudonyms

SHORTEST = 3
"""Least letters of a name that is replaced in a message: shorter ones occur in any word."""


@dataclass(frozen=True)
class Cover:
    """Replacements of the names below a cohort's root in messages.

    Attributes:
        root: the cohort's folder; its own path, given by the user, is not replaced.
        pseudonyms: source of the handles.
        vocabulary: words of the layouts, such as `images` and `masks`, which are not replaced.
    """

    root: Path
    pseudonyms: Pseudonyms
    vocabulary: frozenset[str]

    def handle(self, name: str) -> str:
        """Return the handle of a path relative to the root, which `--find` resolves."""
        return self.pseudonyms.handle("file", name)

    def text(self, message: str, more: Iterable[str] = ()) -> str:
        """Replace names below the root, and `more`, in a message by handles."""
        names = {name: self.handle(name) for name in more}
        # Files behind links lie in folders that `rglob` does not enter.
        files = [path.relative_to(self.root) for path in data_files(self.root)]
        folders = {folder for path in files for folder in path.parents if folder.name}
        empty = {path.relative_to(self.root) for path in self.root.rglob("*")} - folders - set(files)
        for relative in (*sorted(folders), *files, *sorted(empty)):
            handle = self.handle(relative.as_posix())
            names[relative.as_posix()] = handle
            for part in (relative.name, relative.name.split(".")[0]):
                names.setdefault(part, handle)
        replaced = [name for name in names if len(name) >= SHORTEST and name not in self.vocabulary]
        if not replaced:
            return message
        # The longest first, in one pass: a handle is not searched for names again.
        pattern = "|".join(map(re.escape, sorted(replaced, key=len, reverse=True)))
        return re.sub(pattern, lambda match: names[match[0]], message)

    @contextmanager
    def over_errors(self, more: Iterable[str] = ()) -> Iterator[None]:
        """Replace the names in the errors raised in this block; the original text is dropped."""
        try:
            yield
        except DataError as error:
            raise DataError(self.text(str(error), more)) from None
        except UsageError as error:
            raise UsageError(self.text(str(error), more)) from None


def under_pseudonyms(cohort: SourceCohort, covering: Cover) -> SourceCohort:
    """Return the cohort with hashed names; timepoints become 000, 001, … in the order of their names.

    Example:
        >>> case = CaseSource("Doe_t1", "Doe", "t1", ("0",), ("Doe_t1.png",), lambda: None)
        >>> cohort = SourceCohort("image-mask-folders", ("image",), ("lesion",), (case,))
        >>> (hidden,) = under_pseudonyms(cohort, Cover(Path("absent"), Pseudonyms(b"key"), frozenset())).cases
        >>> hidden.case, hidden.sources
        ('P5dd83983265c98a0-000', ('file-708348a9c9a0',))
    """
    by_patient: dict[str, list[CaseSource]] = defaultdict(list)
    for case in cohort.cases:
        by_patient[case.patient].append(case)
    hidden = []
    for patient, cases in by_patient.items():
        ordered = sorted(cases, key=lambda case: (natural(case.timepoint), natural(case.case)))
        hidden += [_hidden(case, patient, number, covering) for number, case in enumerate(ordered)]
    own = [name for case in cohort.cases for name in (case.case, case.patient)]
    notes = tuple(covering.text(note, own) for note in cohort.notes)
    return replace(
        cohort,
        cases=tuple(sorted(hidden, key=lambda case: case.case)),
        notes=(*notes, "patients, cases and files are called by pseudonyms"),
    )


def _hidden(case: CaseSource, patient: str, number: int, covering: Cover) -> CaseSource:
    pseudonym = covering.pseudonyms.patient(patient)
    timepoint = f"{number:03d}"

    def load() -> LoadedCase:
        with covering.over_errors((case.case, patient)):
            loaded = case.load()
        return replace(
            loaded,
            thresholded=tuple(map(covering.handle, loaded.thresholded)),
            resampled=tuple(map(covering.handle, loaded.resampled)),
        )

    return CaseSource(
        case=f"{pseudonym}-{timepoint}",
        patient=pseudonym,
        timepoint=timepoint,
        slice_names=tuple(map(str, range(len(case.slice_names)))),
        sources=tuple(map(covering.handle, case.sources)),
        load=load,
    )
