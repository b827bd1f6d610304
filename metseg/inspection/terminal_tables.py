"""Print an inspection as tables on a terminal of at least 100 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metseg.inspection.case_facts import CaseFacts
from metseg.inspection.cohort import Inspection, diameter_classes, lesions_of_patients, summary, timepoints
from metseg.message_text import listed

MAX_CASES = 20
MAX_KINDS = 4
MAX_LABELS = 12
"""Masks with more values hold grey values rather than labels."""


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Print the tables, unreadable and unused files, and the notes."""
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _facts(inspection):
        facts.add_row(f"[bold]{name}[/bold]", escape(value))
    console.print(facts)
    console.print(_intensities(inspection))
    console.print(_cases(inspection))
    for title, lines in (
        ("Could not be read; ingest stops at these", inspection.unreadable),
        ("Files that belong to no case", inspection.unused),
    ):
        if lines:
            console.print(f"[bold]{title}[/bold]")
            for name, text in lines.items():
                console.print(f"  {name}  {text}", markup=False, highlight=False)
    for note in inspection.notes:
        console.print(f"note: {note}", markup=False, highlight=False)


def _facts(inspection: Inspection) -> list[tuple[str, str]]:
    """Return names and values of the cohort's facts."""
    cases = inspection.cases
    counts = lesions_of_patients(inspection)
    of_patient = ", ".join(
        f"{count} with {number} timepoint{'s' * (number > 1)}" for number, count in timepoints(inspection).items()
    )
    slices = sum(case.shape[0] for case in cases)
    with_lesion = sum(case.lesion_slices for case in cases)
    empty = [patient for patient, count in counts.items() if not count]
    nonfinite = sum(case.nonfinite for case in cases)
    classes = ", ".join(
        f"{name} {inspection.unit}: {count}" for name, count in diameter_classes(inspection).items() if count
    )
    lines = [
        ("layout", f"{inspection.layout} ({inspection.why})"),
        ("patients", f"{len(inspection.patients)} ({of_patient}); {len(cases)} cases, {slices} slices"),
        ("channels", ", ".join(inspection.channels)),
        ("sizes", _kinds(_size(case) for case in cases)),
        ("spacings", _kinds(_spacing(case) for case in cases)),
        ("orientation as read", _kinds(case.orientation for case in cases)),
        (
            "dtype",
            _kinds(case.dtype for case in cases) + (f"; {nonfinite} values are NaN or infinite" if nonfinite else ""),
        ),
        ("label values, voxels", _labels(inspection.label_voxels())),
        ("lesion labels", ", ".join(inspection.labels)),
        ("slices with lesion", f"{with_lesion} of {slices} ({with_lesion / max(1, slices):.0%})"),
        ("lesions", f"{sum(counts.values())}; per patient {_range(counts.values(), 'g')}"),
    ]
    if any(case.lesion_voxels for case in cases):
        volume = "mm³" if inspection.unit == "mm" else "voxels"
        lines += [
            ("volume of a lesion", _range((one for case in cases for one in case.volumes), ",.0f") + f" {volume}"),
            (
                "diameter of a lesion",
                _range((one for case in cases for one in case.diameters), ".3g") + f" {inspection.unit}",
            ),
            ("", classes),
        ]
    if empty:
        lines.append(("patients without lesion", f"{len(empty)}: {', '.join(empty[:MAX_KINDS])}"))
    return lines


def _range(values: Iterable[float], shape: str) -> str:
    known = summary(values)
    if not known:
        return "none"
    return f"{known['min']:{shape}} to {known['max']:{shape}}, median {known['median']:{shape}}"


def _kinds(values: Iterable[str]) -> str:
    """List the distinct values with their numbers of cases, most frequent first."""
    counted = Counter(values).most_common()
    return listed((value if len(counted) == 1 else f"{value} ({count})" for value, count in counted), MAX_KINDS)


def _size(case: CaseFacts) -> str:
    return "×".join(map(str, case.shape))


def _spacing(case: CaseFacts) -> str:
    return "×".join(f"{side:.3g}" for side in case.spacing) + " mm" if case.spacing else "unknown"


def _labels(voxels: dict[float, int]) -> str:
    if not voxels:
        return "the masks are no image files"
    if len(voxels) > MAX_LABELS:
        low, high = min(voxels), max(voxels)
        return f"{len(voxels)} values from {low:g} to {high:g}: grey values, not labels"
    return ", ".join(f"{value:g}: {count:,}" for value, count in voxels.items())


def _intensities(inspection: Inspection) -> Table:
    """Return one row per channel, with the range over all cases."""
    table = Table(title="Intensities over all cases", title_justify="left")
    for heading in ("channel", "minimum", "1 % (median case)", "median (median case)", "99 % (median case)", "maximum"):
        table.add_column(heading, justify="left" if heading == "channel" else "right")
    for channel in inspection.channels:
        values = np.array([case.intensities[channel] for case in inspection.cases])
        middle = np.nanmedian(values, axis=0)
        shown = (np.nanmin(values[:, 0]), middle[1], middle[2], middle[3], np.nanmax(values[:, 4]))
        table.add_row(escape(channel), *(f"{value:.5g}" for value in shown))
    return table


def _cases(inspection: Inspection) -> Table:
    """Return one row per case, for the first `MAX_CASES`."""
    rest = len(inspection.cases) - MAX_CASES
    caption = f"and {rest} more in inspection.json" if rest > 0 else None
    table = Table(title="Cases", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("case", overflow="fold", ratio=1)
    for heading in ("size", "spacing", "read as", "lesions", "volume", "largest ø"):
        table.add_column(heading, justify="right", no_wrap=True)
    for case in inspection.cases[:MAX_CASES]:
        table.add_row(*map(escape, _row(case)))
    return table


def _row(case: CaseFacts) -> Sequence[str]:
    spacing = "×".join(f"{side:.3g}" for side in case.spacing) if case.spacing else "–"
    volume = f"{sum(case.volumes):,.0f}" if case.lesion_voxels else "–"
    largest = f"{max(case.diameters):.1f}" if case.lesion_voxels else "–"
    return (case.case, _size(case), spacing, case.orientation, str(len(case.lesion_voxels)), volume, largest)
