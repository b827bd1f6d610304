"""The verdict on a cohort: may a run go on with these data, and which cases should a person look at?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metseg.dataset.manifest import Manifest
from metseg.errors import ValidationFailed
from metseg.files import read_json, write_json, written_beside
from metseg.validation.drift import compare, new_spacings
from metseg.validation.expectations import CRITICAL, drift_expectations, expectations
from metseg.validation.html_page import render_page
from metseg.validation.reference_statistics import Reference
from metseg.validation.suites import Outcome, run_suites
from metseg.validation.tables import make_frames
from metseg.validation.thumbnails import CaseThumbnails, Place, nothing

if TYPE_CHECKING:
    import pandas

DATA_DOCS = "data_docs"
VERDICT = "verdict.json"
PAGE = "validation.html"
SHOWN = 8
ALIKE = 3
"""Rows of one and the same text that are still named one by one."""
PLACES = 24


@dataclass(frozen=True)
class Finding:
    """An expectation that does not hold.

    Attributes:
        expectation: what should hold.
        severity: `critical` or `warning`.
        found: what was found instead.
        cases: the cases it concerns, all of them; empty where it is the cohort as a whole.
        remedy: what to do.
        places: the first places it concerns.
    """

    expectation: str
    severity: str
    found: str
    cases: tuple[str, ...]
    remedy: str
    places: tuple[Place, ...] = ()

    def __str__(self) -> str:
        rest = len(self.cases) - SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        where = f" [{', '.join(self.cases[:SHOWN])}{more}]" if self.cases else ""
        return f"expected: {self.expectation}; {self.found}{where}. {self.remedy}"


@dataclass(frozen=True)
class Verdict:
    """The judgement of a cohort.

    Attributes:
        passed: no critical expectation is broken.
        critical: what stops the run.
        warnings: what a person should look at.
        expectations: everything that was judged, in words.
        reference: version of the champion's training data that the cohort was compared with; empty if none.
        drift: one row a statistic that was compared: medians, population stability index, Kolmogorov–Smirnov.
    """

    passed: bool
    critical: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    expectations: tuple[str, ...]
    reference: str = ""
    drift: tuple[dict[str, Any], ...] = ()

    def counts(self) -> dict[str, int]:
        """How many expectations there are, and how many of them are broken, by severity."""
        return {
            "expectations": len(self.expectations),
            "critical": len(self.critical),
            "warnings": len(self.warnings),
        }

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain types that JSON holds."""
        return {**asdict(self), "counts": self.counts()}

    @classmethod
    def read(cls, path: Path) -> Verdict:
        """Read the `verdict.json` that `validate` wrote."""
        content = read_json(path)

        def findings(name: str) -> tuple[Finding, ...]:
            return tuple(
                Finding(
                    **{**one, "cases": tuple(one["cases"]), "places": tuple(Place(**place) for place in one["places"])}
                )
                for one in content[name]
            )

        return cls(
            passed=content["passed"],
            critical=findings("critical"),
            warnings=findings("warnings"),
            expectations=tuple(content["expectations"]),
            reference=content["reference"],
            drift=tuple(content["drift"]),
        )


def validate(
    manifest: Manifest,
    statistics: pandas.DataFrame,
    out: Path,
    *,
    reference: Reference | None = None,
    cases: Path | None = None,
) -> Verdict:
    """Judge a cohort by its manifest and statistics alone.

    Args:
        manifest: from ingest.
        statistics: from ingest, one row a case, slice and channel.
        out: folder to write `verdict.json`, `validation.html` and `data_docs/` to; those there are replaced.
        reference: statistics of the data that the reigning champion was trained on, to notice drift.
        cases: folder of canonical cases, read only for pictures of a few slices that findings are about.

    Returns:
        The verdict, as written.

    Raises:
        DataError: manifest and statistics are not of one ingest.
    """
    out.mkdir(parents=True, exist_ok=True)
    frames = make_frames(manifest, statistics)
    expected, tables = expectations(manifest), vars(frames)
    drift: tuple[dict[str, Any], ...] = ()
    if reference is not None:
        compared = compare(reference, manifest, frames)
        frames.cases["new_spacing"] = pandas_objects(new_spacings(reference, manifest))
        expected, tables = [*expected, *drift_expectations()], {**tables, **vars(compared)}
        drift = tuple(_plain(row) for row in compared.drift.to_dict("records"))
    outcomes = run_suites(expected, tables, out / DATA_DOCS)
    findings = [finding_of(outcome) for outcome in outcomes if not outcome.success]
    critical = tuple(one for one in findings if one.severity == CRITICAL)
    verdict = Verdict(
        passed=not critical,
        critical=critical,
        warnings=tuple(one for one in findings if one.severity != CRITICAL),
        expectations=tuple(outcome.name for outcome in outcomes),
        reference=reference.version if reference is not None else "",
        drift=drift,
    )
    pictures = CaseThumbnails(cases, statistics) if cases is not None else nothing
    with written_beside(out / PAGE) as beside:
        beside.write_text(render_page(manifest, verdict, pictures), encoding="utf-8")
    write_json(out / VERDICT, verdict.to_dict())
    return verdict


def pandas_objects(values: list[str | None]) -> pandas.Series:
    """A column of texts and None, which pandas would turn into NaN."""
    import pandas

    return pandas.Series(values, dtype=object)


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """A row with rounded figures, without those that only expectations read."""
    kept = {str(name): value for name, value in row.items() if name not in ("large_psi", "moderate_psi")}
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in kept.items()}


def require(verdict: Verdict) -> None:
    """Raise a `ValidationFailed` that names expectations and cases, unless the verdict is passed."""
    if not verdict.passed:
        reasons = "\n".join(f"- {finding}" for finding in verdict.critical)
        raise ValidationFailed(f"The data are unfit for training, {len(verdict.critical)} findings:\n{reasons}")


def finding_of(outcome: Outcome) -> Finding:
    """What to say of an expectation that does not hold."""
    if outcome.error:
        return Finding(outcome.name, CRITICAL, f"could not be judged ({outcome.error})", (), outcome.remedy)
    if not outcome.rows:
        return Finding(outcome.name, outcome.severity, f"found {_text(outcome.observed)}", (), outcome.remedy)
    rows = [row for row in outcome.rows if "case" in row]
    cases = tuple(dict.fromkeys(str(row["case"]) for row in rows))
    places = dict.fromkeys(
        Place(str(row["case"]), str(row.get("channel", "")), str(row.get("slice_name", ""))) for row in rows
    )
    return Finding(outcome.name, outcome.severity, _found(outcome.rows), cases, outcome.remedy, tuple(places)[:PLACES])


def _found(rows: Sequence[dict[str, Any]]) -> str:
    """The first rows in words; where many say the same, that and how many."""
    texts = {_text(row["found"]) for row in rows}
    if len(texts) == 1 and len(rows) > ALIKE and all(row.keys() == {"case", "found"} for row in rows):
        return f"found {texts.pop()}, {len(rows)} times"
    rest = len(rows) - SHOWN
    return f"found {'; '.join(map(_row, rows[:SHOWN]))}" + (f" and {rest} more" if rest > 0 else "")


def _row(row: dict[str, Any]) -> str:
    """Such as `TCGA_DU_6407_19860514 t1c: t2f`."""
    place = [f"slice {value}" if name == "slice_name" else str(value) for name, value in row.items() if name != "found"]
    return f"{' '.join(place)}: {_text(row['found'])}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple | set):
        return ", ".join(map(str, value)) or "nothing"
    return str(value)
