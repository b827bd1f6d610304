"""Ingest: read a folder in any supported layout into canonical cases, their manifest and their statistics."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metseg.dataset.manifest import CaseEntry, Manifest
from metseg.dataset.split import Assignment, split_patients
from metseg.dataset.statistics import slice_statistics
from metseg.dataset.version import data_version
from metseg.errors import DataError, UsageError
from metseg.files import folder_written_beside
from metseg.imaging.layouts import AUTO, CaseSource, LayoutOptions, SourceCohort, open_cohort
from metseg.imaging.layouts.masks import LOSSY_THRESHOLD
from metseg.imaging.layouts.source import listed
from metseg.imaging.volume import Case

CASES = "cases"
MANIFEST = "manifest.json"
STATISTICS = "statistics.parquet"
WORKERS = 2
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


@dataclass(frozen=True)
class _Read:
    """What is known of a case once it lies in canonical form."""

    entry: CaseEntry
    rows: list[dict[str, Any]]
    thresholded: tuple[str, ...]


def ingest(
    reference: str,
    out: Path,
    *,
    layout: str = AUTO,
    channels: str = "",
    labels: str = "core",
    mask_threshold: int | None = None,
    earlier: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read a cohort and write `cases/<case>/`, `manifest.json` and `statistics.parquet` into `out`.

    Args:
        reference: folder with images and masks.
        out: folder to write, absent or empty; it appears whole or not at all.
        layout: name of the layout, or `auto` to recognise it.
        channels: comma-separated channel names to use, in order; empty for the layout's default.
        labels: which label values are lesion: `core`, `whole`, `enhancing`, or comma-separated numbers.
        mask_threshold: grey value above which a mask that is not binary counts as lesion; None refuses such masks.
        earlier: split of each patient that was assigned before, which is kept.
        progress: called with the number of cases done and of all cases.

    Returns:
        The manifest, as written.

    Raises:
        UsageError: the reference is no folder, or an option does not fit the layout.
        DataError: a file cannot be used, files are missing, or there are fewer than three patients.
    """
    root = resolve(reference)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already and is not empty. Name another folder, or remove it.")
    options = LayoutOptions(_names(channels), labels.strip(), mask_threshold)
    cohort = open_cohort(root, layout, options)
    assignments = split_patients((source.patient for source in cohort.cases), earlier)
    with folder_written_beside(out) as beside, ThreadPoolExecutor(1) as hashing:
        version = hashing.submit(data_version, root)
        read = _read_cases(cohort, assignments, beside, progress)
        manifest = Manifest(
            reference=reference,
            version=version.result(),
            layout=cohort.layout,
            channels=list(cohort.channels),
            labels=list(cohort.labels),
            notes=[*cohort.notes, *_notes(read, assignments)],
            cases=[case.entry for case in read],
        )
        manifest.write(beside / MANIFEST)
        _write_statistics(beside / STATISTICS, read)
    return manifest


def resolve(reference: str) -> Path:
    """The folder that a data reference names; a `UsageError` says which kinds of reference are read."""
    path = Path(reference).expanduser()
    if reference and path.is_dir():
        return path
    if _SCHEME.match(reference):
        raise UsageError(
            f"data reference {reference!r}: a reference is a folder on this machine. Bring the data there first "
            "(`dvc pull`, `dvc get URL PATH`, `aws s3 sync`) and name the folder; its version is DVC's own."
        )
    if path.is_file():
        raise UsageError(f"data reference {reference}: this is a file; a reference is a folder. Unpack an archive.")
    raise UsageError(f"data reference {reference!r}: there is no such folder. Name a folder with images and masks.")


def _names(channels: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in channels.split(",") if name.strip())


def _read_cases(
    cohort: SourceCohort,
    assignments: Mapping[str, Assignment],
    out: Path,
    progress: Callable[[int, int], None] | None,
) -> list[_Read]:
    """Bring every case into canonical form, a few at a time; the first that fails ends it."""
    read = []
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting = [
            pool.submit(_read_case, source, cohort.channels, assignments[source.patient], out / CASES / source.case)
            for source in cohort.cases
        ]
        try:
            for done, case in enumerate(waiting, 1):
                read.append(case.result())
                if progress:
                    progress(done, len(waiting))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return read


def _read_case(source: CaseSource, channels: tuple[str, ...], assignment: Assignment, folder: Path) -> _Read:
    loaded = source.load()
    slices, height, width = loaded.mask.shape
    slice_names = source.slice_names or tuple(map(str, range(slices)))
    case = Case(source.case, source.patient, channels, loaded.geometry, slice_names, source.sources)
    case.write(folder, loaded.image, loaded.mask)
    lesion = loaded.mask.reshape(slices, -1).sum(axis=1, dtype=np.int64)
    entry = CaseEntry(
        case=source.case,
        patient=source.patient,
        timepoint=source.timepoint,
        split=assignment.split,
        forced=assignment.forced,
        slices=slices,
        height=height,
        width=width,
        spacing=loaded.geometry.spacing if loaded.geometry.spacing_known else None,
        lesion_voxels=int(lesion.sum()),
        lesion_slices=int((lesion > 0).sum()),
        sources=source.sources,
    )
    rows = slice_statistics(source.case, channels, slice_names, loaded.image, loaded.mask)
    return _Read(entry, rows, loaded.thresholded)


def _notes(read: list[_Read], assignments: Mapping[str, Assignment]) -> list[str]:
    """What a person should know: masks that were cut at a grey value, patients that were moved."""
    notes = []
    thresholded = [name for case in read for name in case.thresholded]
    if thresholded:
        notes.append(
            f"WARNING: {len(thresholded)} masks are JPEG, which smears their values; lesion is what is brighter than "
            f"{LOSSY_THRESHOLD}: {listed(thresholded)}"
        )
    forced = [f"{name} to {where.split}" for name, where in assignments.items() if where.forced]
    if forced:
        notes.append(f"{len(forced)} patients are not where their hash puts them: {listed(forced)}")
    return notes


def _write_statistics(path: Path, read: list[_Read]) -> None:
    import pandas

    rows = [row for case in read for row in case.rows]
    if not rows:
        raise DataError(f"{path}: the cohort has no slice.")
    pandas.DataFrame(rows).to_parquet(path, index=False)
