"""Validate a cohort: may a run use these data, and which cases need a review?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.dataset.manifest import Manifest
from metseg.errors import ValidationFailed
from metseg.files import written_beside
from metseg.message_text import listed
from metseg.validation.drift import compare, new_spacings
from metseg.validation.expectations import drift_expectations, expectations
from metseg.validation.html_page import render_page
from metseg.validation.reference_statistics import Reference
from metseg.validation.result import CRITICAL, DriftRow, Finding, Place, ValidationResult
from metseg.validation.suites import ExpectationResult, UnexpectedRow, run_suites
from metseg.validation.tables import make_frames, object_column
from metseg.validation.thumbnails import CaseThumbnails

if TYPE_CHECKING:
    import pandas

DATA_DOCS = "data_docs"
RESULT = "verdict.json"
PAGE = "validation.html"
MAX_ROWS_IN_MESSAGE = 8
MAX_EQUAL_ROWS = 3
"""More rows with the same value are counted in a message, not listed."""
MAX_PLACES = 24


def validate_cohort(
    manifest: Manifest,
    statistics: pandas.DataFrame,
    out: Path,
    *,
    reference: Reference | None = None,
    cases: Path | None = None,
) -> ValidationResult:
    """Validate a cohort by its manifest and statistics alone.

    Args:
        manifest: from ingest.
        statistics: from ingest, one row per case, slice and channel.
        out: folder for `verdict.json`, `validation.html` and `data_docs/`; existing ones are replaced.
        reference: statistics of the champion's training data, to detect drift.
        cases: folder of canonical cases, read only for pictures of a few slices with findings.

    Returns:
        The result, as written.

    Raises:
        DataError: manifest and statistics are not from one ingest.
    """
    out.mkdir(parents=True, exist_ok=True)
    frames = make_frames(manifest, statistics)
    expected, tables = expectations(manifest), vars(frames)
    drift: list[DriftRow] = []
    if reference is not None:
        compared = compare(reference, manifest, frames)
        frames.cases["new_spacing"] = object_column(new_spacings(reference, manifest))
        expected, tables = [*expected, *drift_expectations()], {**tables, **vars(compared)}
        drift = _drift_rows(compared.drift)
    results = run_suites(expected, tables, out / DATA_DOCS)
    result = ValidationResult.of(
        [finding_of(one) for one in results if not one.success],
        [one.expected.name for one in results],
        reference.version if reference is not None else "",
        drift,
    )
    thumbnails = CaseThumbnails(cases, statistics) if cases is not None else None
    with written_beside(out / PAGE) as temporary:
        temporary.write_text(render_page(manifest, result, thumbnails), encoding="utf-8")
    result.write(out / RESULT)
    return result


def _drift_rows(table: pandas.DataFrame) -> list[DriftRow]:
    """Return the rows of a comparison, with values rounded to six digits."""
    names = [field.name for field in fields(DriftRow)]
    return [
        DriftRow(str(statistic), *(float(f"{value:.6g}") for value in values))
        for statistic, *values in table[names].itertuples(index=False)
    ]


def require_passed(result: ValidationResult) -> None:
    """Raise `ValidationFailed` with all critical findings unless the result passed."""
    if not result.passed:
        reasons = "\n".join(f"- {finding}" for finding in result.critical)
        raise ValidationFailed(f"The data are unfit for training, {len(result.critical)} findings:\n{reasons}")


def finding_of(result: ExpectationResult) -> Finding:
    """Return the finding of an expectation that does not hold."""
    name, severity, remedy = result.expected.name, result.expected.severity, result.expected.remedy
    if result.error:
        return Finding(name, CRITICAL, f"could not be evaluated ({result.error})", (), remedy)
    if not result.rows:
        return Finding(name, severity, f"found {_text(result.observed)}", (), remedy)
    keys = [row.key for row in result.rows if "case" in row.key]
    cases = tuple(dict.fromkeys(key["case"] for key in keys))
    places = dict.fromkeys(Place(key["case"], key.get("channel", ""), key.get("slice_name", "")) for key in keys)
    return Finding(name, severity, _observation(result.rows), cases, remedy, tuple(places)[:MAX_PLACES])


def _observation(rows: Sequence[UnexpectedRow]) -> str:
    """Describe the first unexpected rows.

    If many cases have the same value, describe that value and their number.
    """
    texts = {_text(row.value) for row in rows}
    if len(texts) == 1 and len(rows) > MAX_EQUAL_ROWS and all(row.key.keys() == {"case"} for row in rows):
        return f"found {texts.pop()}, {len(rows)} times"
    return "found " + listed((_row_text(row) for row in rows), MAX_ROWS_IN_MESSAGE, "; ")


def _row_text(row: UnexpectedRow) -> str:
    """Describe a row, such as `TCGA_DU_6407_19860514 t1c: t2f`."""
    place = [f"slice {value}" if name == "slice_name" else value for name, value in row.key.items()]
    return f"{' '.join(place)}: {_text(row.value)}"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple | set):
        return ", ".join(map(str, value)) or "nothing"
    return str(value)
