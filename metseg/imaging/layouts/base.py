"""Base class of the layouts: the cases of a cohort, found but not yet read."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, UsageError
from metseg.imaging.geometry import Geometry
from metseg.message_text import listed

BRATS = re.compile(r"(?P<patient>.+-\d{5})-(?P<timepoint>\d{3})")
_TIMEPOINTS = (
    BRATS,
    re.compile(r"(?P<patient>sub-[A-Za-z0-9]+)_(?P<timepoint>ses-[A-Za-z0-9]+)"),
    re.compile(r"(?P<patient>.+?)[-_](?P<timepoint>(?:t|tp|ses|session|visit|time|timepoint)[-_]?\d+)", re.IGNORECASE),
)


@dataclass(frozen=True)
class LayoutOptions:
    """The user's options for a cohort.

    Attributes:
        channels: channels to use, in order; empty for the layout's default.
        labels: label values that are lesion: `core`, `whole`, `enhancing`, or comma-separated numbers.
        mask_threshold: grey value above which a mask that is not binary counts as lesion; None refuses such masks.
        resample_masks: resample a mask on another grid than its image (nearest neighbour) instead of refusing it.
    """

    channels: tuple[str, ...] = ()
    labels: str = "core"
    mask_threshold: int | None = None
    resample_masks: bool = False


@dataclass(frozen=True)
class LoadedCase:
    """One case in memory.

    Attributes:
        image: `(slices, height, width, channels)`, in the dtype of the source.
        mask: uint8 `(slices, height, width)` of 0 and 1.
        geometry: position of both in the patient.
        thresholded: lossy masks that were cut at a grey value, relative to the cohort's root.
        resampled: masks that were resampled onto their image's grid, relative to the cohort's root.
    """

    image: NDArray[np.generic]
    mask: NDArray[np.uint8]
    geometry: Geometry
    thresholded: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseSource:
    """One timepoint of one patient, found in a folder.

    Attributes:
        case: its name, unique in the cohort.
        patient: the patient.
        timepoint: the scan of the patient, as in the name; empty if unknown.
        slice_names: one name per slice; empty if the number of slices is known only after reading.
        sources: files it is read from, relative to the cohort's root.
        load: reads it.
    """

    case: str
    patient: str
    timepoint: str
    slice_names: tuple[str, ...]
    sources: tuple[str, ...]
    load: Callable[[], LoadedCase]


@dataclass(frozen=True)
class FoundCase:
    """The name of a found case; layouts of volumes and pictures add the files.

    Attributes:
        case: its name, unique in the cohort.
        patient: the patient.
        timepoint: the scan of the patient; empty if unknown.
    """

    case: str
    patient: str
    timepoint: str

    def source(
        self, root: Path, files: Iterable[Path], load: Callable[[], LoadedCase], slice_names: Iterable[str] = ()
    ) -> CaseSource:
        """Return the case of a cohort in `root` that `load` reads from `files`."""
        sources = tuple(path.relative_to(root).as_posix() for path in files)
        return CaseSource(self.case, self.patient, self.timepoint, tuple(slice_names), sources, load)


@dataclass(frozen=True)
class SourceCohort:
    """A cohort in one of the layouts.

    Attributes:
        layout: name of the layout.
        channels: names of the channels, in order.
        labels: meaning of the mask.
        cases: sorted by name.
        notes: remarks for the user on the reading.
    """

    layout: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    cases: tuple[CaseSource, ...]
    notes: tuple[str, ...] = field(default=())


FoundT = TypeVar("FoundT")


class Layout(ABC, Generic[FoundT]):
    """One arrangement of a cohort in a folder.

    A layout of volumes with one folder per case is a subclass of `volume_layout.VolumeLayout`: names and a table.

    Attributes:
        name: value of `data_layout`.
        looks_for: the expected files, for messages.
    """

    name: str
    looks_for: str

    @abstractmethod
    def find(self, root: Path) -> Iterable[FoundT]:
        """Find the cases under `root`, sorted by name, without reading their images."""

    @abstractmethod
    def cohort(self, root: Path, cases: Sequence[FoundT], options: LayoutOptions) -> SourceCohort:
        """Return the cohort of the `cases` that `find` yields.

        Raises:
            DataError: files do not fit; the message names them.
        """

    def recognise(self, root: Path) -> bool:
        """Return True if `root` contains a case of this layout."""
        return any(True for _ in self.find(root))

    def open(self, root: Path, options: LayoutOptions) -> SourceCohort:
        """Find the cases under `root` and describe them as a cohort.

        Raises:
            DataError: there is no case, or files are missing or do not fit; the message names them.
            UsageError: an option does not fit.
        """
        cases = list(self.find(root))
        if not cases:
            raise DataError(f"{root}: no case of the layout {self.name} in it; expected {self.looks_for}.")
        return self.cohort(root, cases, options)


def patient_and_timepoint(case: str) -> tuple[str, str]:
    """Return patient and timepoint of a case's name.

    Names are as in BraTS or BIDS, or end in `_t1`, `-tp2`, `_visit3`, …

    Any other name is the patient's, and the timepoint is empty.

    >>> patient_and_timepoint("sub-01_ses-2"), patient_and_timepoint("anna_tp3"), patient_and_timepoint("p7")
    (('sub-01', 'ses-2'), ('anna', 'tp3'), ('p7', ''))
    """
    for pattern in _TIMEPOINTS:
        match = pattern.fullmatch(case)
        if match:
            return match["patient"], match["timepoint"]
    return case, ""


def visible(folder: Path) -> list[Path]:
    """Return the entries of `folder` that are not hidden, sorted by name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     for name in ("p2.png", ".DS_Store", "p1.png"):
        ...         (Path(root) / name).touch()
        ...     [path.name for path in visible(Path(root))]
        ['p1.png', 'p2.png']
    """
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def folders_in(root: Path) -> list[Path]:
    """Return the folders in `root` that are not hidden, sorted by name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     (Path(root) / "Mets_005").mkdir()
        ...     (Path(root) / "README.md").touch()
        ...     [path.name for path in folders_in(Path(root))]
        ['Mets_005']
    """
    return [path for path in visible(root) if path.is_dir()]


def files_by_name(folder: Path, name_of: Callable[[Path], str | None], same: str) -> dict[str, Path]:
    """Return the files in `folder` by their names, in natural order.

    There are none if there is no such folder.

    Args:
        folder: to list; hidden files are left out.
        name_of: returns the name of a file; None leaves it out.
        same: what two files of one name have in common, for the message.

    Raises:
        DataError: two files have one name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("10.png", "2.png", "notes.txt"):
        ...         (Path(folder) / name).touch()
        ...     name_of = lambda path: path.stem if path.suffix == ".png" else None
        ...     list(files_by_name(Path(folder), name_of, "is the same slice"))
        ['2', '10']
    """
    files: dict[str, Path] = {}
    for path in visible(folder) if folder.is_dir() else ():
        name = name_of(path) if path.is_file() else None
        if name is None:
            continue
        if name in files:
            raise DataError(f"{path}: {files[name].name} {same} ({name}); remove one of the two.")
        files[name] = path
    return {name: files[name] for name in sorted(files, key=natural)}


def passed_over_note(kind: str, names: Sequence[str]) -> list[str]:
    """Return a note on entries that were not read; empty without entries.

    Example:
        >>> passed_over_note("entries are no images", ["notes.txt", "README.md"])
        ['2 entries are no images and were passed over: notes.txt, README.md']
    """
    return [f"{len(names)} {kind} and were passed over: {listed(names)}"] if names else []


def other_folders_note(root: Path, cases: Iterable[FoundCase]) -> list[str]:
    """Return a note on the folders that are no cases; empty without such folders.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     for name in ("p1", "old"):
        ...         (Path(root) / name).mkdir()
        ...     other_folders_note(Path(root), [FoundCase("p1", "p1", "")])
        ['1 folders are no cases and were passed over: old']
    """
    known = {case.case for case in cases}
    return passed_over_note("folders are no cases", [path.name for path in folders_in(root) if path.name not in known])


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that reads runs of digits as numbers.

    >>> sorted(["x_10", "x_2"], key=natural)
    ['x_2', 'x_10']
    """
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def gaps(numbers: Iterable[int]) -> str:
    """Return the numbers missing within a run of slice numbers; empty if none are.

    >>> gaps([1, 2, 6, 7, 9])
    '3-5, 8'
    """
    there = sorted(set(numbers))
    ends = [(before + 1, after - 1) for before, after in pairwise(there) if after - before > 1]
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


def require_pairs(root: Path, without_mask: Iterable[str], without_image: Iterable[str]) -> None:
    """Raise a `DataError` that lists images without masks, and masks without images.

    Example:
        >>> require_pairs(Path("cohort"), ["p1.png"], [])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        metseg.errors.DataError: cohort: images and masks do not pair up. 1 without a mask: p1.png. Add what is ...
    """
    images, masks = list(without_mask), list(without_image)
    problems = []
    if images:
        problems.append(f"{len(images)} without a mask: {listed(images)}")
    if masks:
        problems.append(f"{len(masks)} masks without an image: {listed(masks)}")
    if problems:
        raise DataError(
            f"{root}: images and masks do not pair up. {'; '.join(problems)}. Add what is missing (a mask of zeros "
            "if there is no lesion), or move the single files elsewhere."
        )


def chosen_channels(wanted: tuple[str, ...], there: tuple[str, ...], layout: str) -> tuple[int, ...]:
    """Return the positions in `there` of the wanted channels; all by default.

    Example:
        >>> there = ("t1n", "t2f", "t1c")
        >>> chosen_channels(("t1c", "t1n"), there, "tcga-lgg"), chosen_channels((), there, "tcga-lgg")
        ((2, 0), (0, 1, 2))
    """
    require_distinct(wanted)
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise UsageError(
            f"channels: {', '.join(unknown)} unknown; images of the layout {layout} have {', '.join(there)}."
        )
    return tuple(there.index(name) for name in wanted or there)


def require_distinct(channels: Sequence[str]) -> None:
    """Raise a `UsageError` if `data_channels` names a channel twice.

    Example:
        >>> require_distinct(("t1c", "t2f", "t1c"))
        Traceback (most recent call last):
        metseg.errors.UsageError: data_channels=t1c,t2f,t1c names a channel twice.
    """
    if len(set(channels)) != len(channels):
        raise UsageError(f"data_channels={','.join(channels)} names a channel twice.")
