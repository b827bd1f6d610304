"""The result of a cohort's validation, as `verdict.json` holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from metseg.message_text import listed
from metseg.records import Record

Severity = Literal["critical", "warning"]
CRITICAL: Severity = "critical"
WARNING: Severity = "warning"
MAX_CASES_IN_MESSAGE = 8


@dataclass(frozen=True)
class Place:
    """A place in the cohort.

    Attributes:
        case: name of the case.
        channel: its channel; empty for all of them.
        slice_name: its slice; empty for all of them.
    """

    case: str
    channel: str = ""
    slice_name: str = ""


@dataclass(frozen=True)
class Finding:
    """An expectation that does not hold.

    Attributes:
        expectation: its name.
        severity: `critical` or `warning`.
        found: the observation that contradicts it.
        cases: all affected cases; empty if the finding is about the whole cohort.
        remedy: the user's next step.
        places: the first affected places.
    """

    expectation: str
    severity: Severity
    found: str
    cases: tuple[str, ...]
    remedy: str
    places: tuple[Place, ...] = ()

    def __str__(self) -> str:
        where = f" [{listed(self.cases, MAX_CASES_IN_MESSAGE)}]" if self.cases else ""
        return f"expected: {self.expectation}; {self.found}{where}. {self.remedy}"


@dataclass(frozen=True)
class DriftRow:
    """One statistic compared with the champion's training data.

    Attributes:
        statistic: its name.
        reference_median, median: of the champion's training data and of the cohort.
        psi: population stability index.
        psi_by_chance: value that the index reaches by chance.
        ks, ks_p: Kolmogorov–Smirnov statistic and its adjusted p-value.
    """

    statistic: str
    reference_median: float
    median: float
    psi: float
    psi_by_chance: float
    ks: float
    ks_p: float


@dataclass(frozen=True)
class FindingCounts:
    """Number of expectations, and of those that do not hold."""

    expectations: int
    critical: int
    warnings: int


@dataclass(frozen=True)
class ValidationResult(Record):
    """The result of a cohort's validation.

    Attributes:
        passed: True if all critical expectations hold.
        critical: findings that stop the run.
        warnings: findings to review.
        expectations: names of all expectations.
        counts: number of expectations and findings.
        reference: version of the champion's training data; empty without a comparison.
        drift: the comparison with it.
    """

    passed: bool
    critical: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    expectations: tuple[str, ...]
    counts: FindingCounts
    reference: str = ""
    drift: tuple[DriftRow, ...] = ()

    @classmethod
    def of(
        cls,
        findings: Sequence[Finding],
        expectations: Sequence[str],
        reference: str = "",
        drift: Sequence[DriftRow] = (),
    ) -> Self:
        """Return the result with these findings; it passes without a critical one."""
        critical = tuple(finding for finding in findings if finding.severity == CRITICAL)
        warnings = tuple(finding for finding in findings if finding.severity == WARNING)
        counts = FindingCounts(len(expectations), len(critical), len(warnings))
        return cls(not critical, critical, warnings, tuple(expectations), counts, reference, tuple(drift))
