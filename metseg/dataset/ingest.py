"""Ingest: read data in any supported layout into canonical cases, their manifest and their statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from metseg.dataset import case_cache
from metseg.dataset.case_cache import ReadCohort
from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable
from metseg.dataset.image_statistics import StatisticsFile, StatisticsRow, slice_statistics
from metseg.dataset.manifest import CaseEntry, Manifest
from metseg.dataset.references import Pinned, resolve
from metseg.dataset.split import split_patients
from metseg.errors import UsageError
from metseg.files import folder_written_beside
from metseg.imaging.case import Case, write_case
from metseg.imaging.layouts import AUTO, CaseSource, LayoutOptions, open_cohort
from metseg.imaging.layouts.mask_values import LOSSY_THRESHOLD
from metseg.message_text import listed
from metseg.parallel import in_processes, usable_cores

CASES = "cases"
MANIFEST = "manifest.json"
STATISTICS = "statistics.parquet"


@dataclass(frozen=True)
class _Read:
    """A case in canonical form."""

    entry: CaseEntry
    rows: list[StatisticsRow]
    thresholded: tuple[str, ...]
    resampled: tuple[str, ...]


def ingest(
    reference: str,
    out: Path,
    *,
    layout: str = AUTO,
    channels: str = "",
    labels: str = "core",
    mask_threshold: int | None = None,
    resample_masks: bool = False,
    earlier: Mapping[str, str] | None = None,
    cache: DataCache | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Read a cohort and write `cases/<case>/`, `manifest.json` and `statistics.parquet` into `out`.

    Args:
        reference: folder, archive, S3 prefix or revision under DVC (`metseg.dataset.references.syntax.GRAMMAR`).
        out: folder to write, absent or empty; it appears whole or not at all.
        layout: name of the layout, or `auto` to recognise it.
        channels: comma-separated channel names to use, in order; empty for the layout's default.
        labels: which label values are lesion: `core`, `whole`, `enhancing`, or comma-separated numbers.
        mask_threshold: grey value above which a mask that is not binary counts as lesion; None refuses such masks.
        resample_masks: bring a mask on another grid than its image onto it instead of refusing it.
        earlier: split of each patient from earlier runs, which stays.
        cache: where fetched data, hashes and canonical cases are kept, so that unchanged data are read once; None
            keeps nothing, and reads folders alone.
        workers: cases read at a time; None for the cores that this process may use.
        progress: called with the number of cases done and of all cases.

    Returns:
        The manifest, as written.

    Raises:
        UsageError: the reference is of no kind that is read, or an option does not fit the layout.
        DataError: a file cannot be used, files are missing, or there are fewer than three patients.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already and is not empty. Name another folder, or remove it.")
    names = tuple(name.strip() for name in channels.split(",") if name.strip())
    options = LayoutOptions(names, labels.strip(), mask_threshold, resample_masks)
    with HashTable(cache.hashes if cache else None) as table:
        pinned = resolve(reference, cache, table)
    with folder_written_beside(out) as beside:
        read = _cases(pinned, layout, options, beside, cache, workers or usable_cores(), progress)
        assignments = split_patients((entry.patient for entry in read.entries), earlier)
        forced = [f"{name} to {assigned.split}" for name, assigned in assignments.items() if assigned.forced]
        notes = [f"{len(forced)} patients are not where their hash puts them: {listed(forced)}"] if forced else []
        manifest = Manifest(
            reference=reference,
            version=pinned.version,
            layout=read.layout,
            channels=list(read.channels),
            labels=list(read.labels),
            notes=[*read.notes, *notes],
            cases=[replace(entry, **vars(assignments[entry.patient])) for entry in read.entries],
            resolved=pinned.resolved,
            commit=pinned.commit,
        )
        manifest.write(beside / MANIFEST)
    return manifest


def _cases(
    pinned: Pinned,
    layout: str,
    options: LayoutOptions,
    out: Path,
    cache: DataCache | None,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> ReadCohort:
    """Write canonical cases and statistics to `out`, from the cache or the data."""
    if cache is None:
        return _read_cases(pinned.root, layout, options, out, workers, progress)
    key = case_cache.cases_key(pinned.version, layout, options)
    read = case_cache.take(cache, key, out)
    if read is None:
        read = _read_cases(pinned.root, layout, options, out, workers, progress)
        case_cache.keep(cache, key, out, read)
    elif progress:
        progress(len(read.entries), len(read.entries))
    return read


def _read_cases(
    root: Path,
    layout: str,
    options: LayoutOptions,
    out: Path,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> ReadCohort:
    """Bring every case into canonical form; the first error ends it."""
    cohort = open_cohort(root, layout, options)
    split_patients(source.patient for source in cohort.cases)
    entries, thresholded, resampled = [], list[str](), list[str]()
    work = partial(_read_case, cohort.channels, out / CASES)
    with StatisticsFile(out / STATISTICS) as statistics:
        for done, case in enumerate(in_processes(work, cohort.cases, workers), 1):
            entries.append(case.entry)
            thresholded += case.thresholded
            resampled += case.resampled
            statistics.add(case.rows)
            if progress:
                progress(done, len(cohort.cases))
    notes = list(cohort.notes)
    if thresholded:
        notes.append(
            f"WARNING: {len(thresholded)} masks are JPEG, which blurs their values; voxels are lesion above "
            f"{LOSSY_THRESHOLD}: {listed(thresholded)}"
        )
    if resampled:
        notes.append(
            f"WARNING: {len(resampled)} masks lay on another grid than their image and were resampled onto it by "
            f"nearest neighbour: {listed(resampled)}"
        )
    return ReadCohort(cohort.layout, cohort.channels, cohort.labels, tuple(notes), tuple(entries))


def _read_case(channels: tuple[str, ...], cases: Path, source: CaseSource) -> _Read:
    loaded = source.load()
    slices, height, width = loaded.mask.shape
    slice_names = source.slice_names or tuple(map(str, range(slices)))
    case = Case(source.case, source.patient, channels, loaded.geometry, slice_names, source.sources)
    write_case(cases / source.case, case, loaded.image, loaded.mask)
    lesion = loaded.mask.reshape(slices, -1).sum(axis=1, dtype=np.int64)
    entry = CaseEntry(
        case=source.case,
        patient=source.patient,
        timepoint=source.timepoint,
        split="",
        forced=False,
        slices=slices,
        height=height,
        width=width,
        spacing=loaded.geometry.spacing if loaded.geometry.spacing_known else None,
        lesion_voxels=int(lesion.sum()),
        lesion_slices=int((lesion > 0).sum()),
        sources=source.sources,
    )
    rows = slice_statistics(source.case, channels, slice_names, loaded.image, loaded.mask, loaded.geometry)
    return _Read(entry, rows, loaded.thresholded, loaded.resampled)
