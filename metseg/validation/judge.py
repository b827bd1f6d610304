"""The verdict on a cohort: may a run go on with these data, and which cases should a person look at?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metseg.dataset.manifest import Manifest
from metseg.errors import ValidationFailed
from metseg.files import read_json, write_json, written_beside
from metseg.validation.expectations import CRITICAL, expectations
from metseg.validation.frames import make_frames
from metseg.validation.page import render_page
from metseg.validation.suites import Outcome, run_suites

if TYPE_CHECKING:
    import pandas

DATA_DOCS = "data_docs"
VERDICT = "verdict.json"
PAGE = "validation.html"
SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """An expectation that does not hold.

    Attributes:
        expectation: what should hold.
        severity: `critical` or `warning`.
        found: what was found instead.
        cases: the cases it concerns, all of them; empty where it is the cohort as a whole.
        remedy: what to do.
    """

    expectation: str
    severity: str
    found: str
    cases: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        rest = len(self.cases) - SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        where = f" [{', '.join(self.cases[:SHOWN])}{more}]" if self.cases else ""
        return f"{self.expectation}: {self.found}{where}. {self.remedy}"


@dataclass(frozen=True)
class Verdict:
    """The judgement of a cohort.

    Attributes:
        passed: no critical expectation is broken.
        critical: what stops the run.
        warnings: what a person should look at.
        expectations: everything that was judged, in words.
    """

    passed: bool
    critical: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    expectations: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain types that JSON holds."""
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> Verdict:
        """Read the `verdict.json` that `validate` wrote."""
        content = read_json(path)

        def findings(name: str) -> tuple[Finding, ...]:
            return tuple(Finding(**{**one, "cases": tuple(one["cases"])}) for one in content[name])

        return cls(content["passed"], findings("critical"), findings("warnings"), tuple(content["expectations"]))


def validate(manifest: Manifest, statistics: pandas.DataFrame, out: Path) -> Verdict:
    """Judge a cohort by its manifest and statistics alone.

    Args:
        manifest: from ingest.
        statistics: from ingest, one row a case, slice and channel.
        out: folder to write `verdict.json`, `validation.html` and `data_docs/` to; those there are replaced.

    Returns:
        The verdict, as written.

    Raises:
        DataError: manifest and statistics are not of one ingest.
    """
    out.mkdir(parents=True, exist_ok=True)
    outcomes = run_suites(expectations(manifest), make_frames(manifest, statistics), out / DATA_DOCS)
    findings = [_finding(outcome) for outcome in outcomes if not outcome.success]
    critical = tuple(one for one in findings if one.severity == CRITICAL)
    verdict = Verdict(
        passed=not critical,
        critical=critical,
        warnings=tuple(one for one in findings if one.severity != CRITICAL),
        expectations=tuple(outcome.name for outcome in outcomes),
    )
    with written_beside(out / PAGE) as beside:
        beside.write_text(render_page(manifest, verdict), encoding="utf-8")
    write_json(out / VERDICT, verdict.to_dict())
    return verdict


def require(verdict: Verdict) -> None:
    """Raise a `ValidationFailed` that names expectations and cases, unless the verdict is passed."""
    if not verdict.passed:
        reasons = "\n".join(f"- {finding}" for finding in verdict.critical)
        raise ValidationFailed(f"The data are unfit for training, {len(verdict.critical)} findings:\n{reasons}")


def _finding(outcome: Outcome) -> Finding:
    """What to say of an expectation that does not hold."""
    if outcome.error:
        return Finding(outcome.name, CRITICAL, f"could not be judged ({outcome.error})", (), outcome.remedy)
    if not outcome.rows:
        return Finding(outcome.name, outcome.severity, f"found {_text(outcome.observed)}", (), outcome.remedy)
    cases = tuple(dict.fromkeys(str(row["case"]) for row in outcome.rows))
    shown = [_row(row) for row in outcome.rows[:SHOWN]]
    rest = len(outcome.rows) - len(shown)
    found = f"found {'; '.join(shown)}" + (f" and {rest} more" if rest else "")
    return Finding(outcome.name, outcome.severity, found, cases, outcome.remedy)


def _row(row: dict[str, Any]) -> str:
    """Such as `TCGA_DU_6407_19860514 t1c: t2f`."""
    place = [str(row["case"])]
    if "slice_name" in row:
        place.append(f"slice {row['slice_name']}")
    if "channel" in row:
        place.append(str(row["channel"]))
    return f"{' '.join(place)}: {_text(row['found'])}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple | set):
        return ", ".join(map(str, value)) or "nothing"
    return str(value)
