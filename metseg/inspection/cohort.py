"""Inspection of all cases of a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from metseg.errors import DataError, UsageError
from metseg.files import data_files
from metseg.imaging.layouts import AUTO, LAYOUTS, LayoutOptions, SourceCohort, open_cohort
from metseg.imaging.layouts.mask_values import LOSSY_THRESHOLD
from metseg.inspection.case_facts import CaseFacts, Preview, inspect_case
from metseg.message_text import listed
from metseg.progress import track
from metseg.pseudonyms import pseudonyms_everywhere

MAX_PREVIEWS = 12
DIAMETERS = (3.0, 5.0, 10.0, 20.0)
"""Bounds between classes of lesions, mm of equivalent diameter."""


@dataclass(frozen=True)
class Inspection:
    """Facts about a folder.

    Attributes:
        folder: as the user gave it.
        layout: name of the layout.
        why: reason for this layout.
        channels: names of the channels, in order.
        labels: label values that are lesion.
        cases: facts about each readable case.
        unreadable: error message of each unreadable case.
        unused: summary of files that belong to no case, by suffix.
        notes: remarks on the reading of the folder.
        previews: pictures by case.
    """

    folder: str
    layout: str
    why: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    cases: tuple[CaseFacts, ...]
    unreadable: dict[str, str]
    unused: dict[str, str]
    notes: tuple[str, ...]
    previews: dict[str, Preview] = field(default_factory=dict, repr=False)

    @property
    def patients(self) -> tuple[str, ...]:
        """Patients of the readable cases."""
        return tuple(sorted({case.patient for case in self.cases}))

    @property
    def unit(self) -> str:
        """`mm`, or `voxels` if a case has no spacing."""
        return "mm" if all(case.spacing for case in self.cases) else "voxels"

    def label_voxels(self) -> dict[float, int]:
        """Count the voxels of each value in the mask files of all cases."""
        counts: Counter[float] = Counter()
        for case in self.cases:
            counts.update(case.labels)
        return dict(sorted(counts.items()))

    def to_dict(self) -> dict[str, object]:
        """Return everything but the pictures as types of JSON; NaN and infinity become null."""
        plain = ("folder", "layout", "why", "channels", "labels", "unit", "unreadable", "unused", "notes")
        return {
            **{name: getattr(self, name) for name in plain},
            "patients": len(self.patients),
            "cases": len(self.cases),
            "timepoints": timepoints(self),
            "slices": sum(case.shape[0] for case in self.cases),
            "label_voxels": _by_text(self.label_voxels()),
            "lesions": {
                "count": sum(len(case.lesion_voxels) for case in self.cases),
                "per_patient": summary(lesions_of_patients(self).values()),
                "volume": summary(volume for case in self.cases for volume in case.volumes),
                "diameter": summary(diameter for case in self.cases for diameter in case.diameters),
                "diameter_classes": diameter_classes(self),
            },
            "by_case": [
                {
                    **{name: value for name, value in asdict(case).items() if name not in ("labels", "intensities")},
                    "label_voxels": _by_text(case.labels),
                    "intensities": {
                        name: dict(zip(("min", "p01", "p50", "p99", "max"), map(_finite, values), strict=True))
                        for name, values in case.intensities.items()
                    },
                }
                for case in self.cases
            ],
        }


def inspect_cohort(folder: Path, layout: str = AUTO, options: LayoutOptions | None = None) -> Inspection:
    """Read every case of a folder once and collect facts.

    Args:
        folder: images and masks in a supported layout.
        layout: name of the layout, or `auto` to recognise it.
        options: the user's settings of the layout.

    Raises:
        UsageError: the folder does not exist, or an option does not fit.
        DataError: the layout is unknown, files do not pair up, or no case can be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder. Name a folder with images and masks.")
    cohort = open_cohort(folder, layout, options)
    with_preview = _cases_with_preview(cohort)
    cases, previews, unreadable = [], {}, {}
    for source in track(cohort.cases, "inspecting cases"):
        try:
            facts, preview = inspect_case(folder, source, cohort.channels, source.case in with_preview)
        except DataError as error:
            unreadable[source.case] = str(error)
            continue
        cases.append(facts)
        if preview is not None:
            previews[source.case] = preview
    if not cases:
        first = next(iter(unreadable.values()))
        raise DataError(f"{folder}: none of the {len(unreadable)} cases can be read. The first: {first}")
    pattern = next(known.looks_for for known in LAYOUTS if known.name == cohort.layout)
    return Inspection(
        folder=str(folder),
        layout=cohort.layout,
        why=f"recognised by {pattern}" if layout == AUTO else "named by --layout",
        channels=cohort.channels,
        labels=cohort.labels,
        cases=tuple(cases),
        unreadable=unreadable,
        unused=_unused(folder, cohort),
        notes=(*cohort.notes, *_notes(cases)),
        previews=previews,
    )


def summary(values: Iterable[float]) -> dict[str, float]:
    """Return minimum, quartiles, maximum and mean; empty without values."""
    known = np.array(list(values), float)
    if not known.size:
        return {}
    low, first, middle, third, high = (float(one) for one in np.percentile(known, (0, 25, 50, 75, 100)))
    return {"min": low, "p25": first, "median": middle, "p75": third, "max": high, "mean": float(known.mean())}


def lesions_of_patients(inspection: Inspection) -> dict[str, int]:
    """Count the lesions of each patient over all timepoints."""
    counts: Counter[str] = Counter(dict.fromkeys(inspection.patients, 0))
    for case in inspection.cases:
        counts[case.patient] += len(case.lesion_voxels)
    return dict(counts)


def timepoints(inspection: Inspection) -> dict[int, int]:
    """Count the patients by their number of timepoints."""
    of_patient = Counter(case.patient for case in inspection.cases)
    return dict(sorted(Counter(of_patient.values()).items()))


def diameter_classes(inspection: Inspection) -> dict[str, int]:
    """Count the lesions in each class of equivalent diameter."""
    diameters = [diameter for case in inspection.cases for diameter in case.diameters]
    places = np.digitize(diameters, DIAMETERS) if diameters else np.zeros(0, int)
    counts = np.bincount(places, minlength=len(DIAMETERS) + 1).tolist()
    names = [f"< {DIAMETERS[0]:g}", *(f"{low:g}–{high:g}" for low, high in pairwise(DIAMETERS))]
    return dict(zip([*names, f"≥ {DIAMETERS[-1]:g}"], counts, strict=True))


def _cases_with_preview(cohort: SourceCohort) -> set[str]:
    """Select the first timepoint of up to `MAX_PREVIEWS` patients, evenly chosen."""
    first = {source.patient: source.case for source in reversed(cohort.cases)}
    patients = sorted(first)
    places = np.linspace(0, len(patients) - 1, min(MAX_PREVIEWS, len(patients))).round().astype(int)
    return {first[patients[place]] for place in places}


def _notes(cases: list[CaseFacts]) -> list[str]:
    """Return remarks on masks that were thresholded or resampled."""
    remarks = {
        f"masks are JPEG, which blurs their values; lesion is brighter than {LOSSY_THRESHOLD}": [
            name for case in cases for name in case.thresholded
        ],
        "masks were resampled onto their image's grid": [name for case in cases for name in case.resampled],
    }
    return [f"{len(masks)} {remark}: {listed(masks)}" for remark, masks in remarks.items() if masks]


def _unused(folder: Path, cohort: SourceCohort) -> dict[str, str]:
    """Summarise files that belong to no case.

    The summary is empty if cases do not name their files, as in DICOM.
    """
    used = {name for source in cohort.cases for name in source.sources}
    if pseudonyms_everywhere() or not any((folder / name).is_file() for name in used):
        return {}
    by_suffix: dict[str, list[str]] = {}
    for path in data_files(folder):
        name = path.relative_to(folder).as_posix()
        if name not in used:
            by_suffix.setdefault("".join(path.suffixes[-2:]) or "no suffix", []).append(name)
    return {suffix: f"{len(names)}: {listed(names)}" for suffix, names in sorted(by_suffix.items())}


def _by_text(labels: dict[float, int]) -> dict[str, int]:
    return {f"{value:g}": count for value, count in labels.items()}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
