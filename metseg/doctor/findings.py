"""Findings of `metseg doctor`: subject, severity, observation and remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from metseg.hidden_secrets import hidden

LEAST_WIDTH = 150
"""Columns of the table if it is not printed to a terminal."""


class State(StrEnum):
    """Severity of a finding."""

    GOOD = "good"
    WARNING = "warning"
    """Works, or may work, but not in every case."""
    BROKEN = "broken"
    """Must be fixed before a run can succeed."""
    UNKNOWN = "unknown"


MARKS = {State.GOOD: "✓", State.WARNING: "!", State.BROKEN: "✗", State.UNKNOWN: "?"}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        what: the thing examined, such as "Secret metseg-storage".
        state: severity.
        found: observation.
        remedy: what to do; empty if nothing needs to be done.
    """

    what: str
    state: State
    found: str
    remedy: str = ""


def good(what: str, found: str) -> Finding:
    """Report a thing that needs nothing."""
    return Finding(what, State.GOOD, found)


def warning(what: str, found: str, remedy: str) -> Finding:
    """Report a thing that works, but not in every case."""
    return Finding(what, State.WARNING, found, remedy)


def broken(what: str, found: str, remedy: str) -> Finding:
    """Report a thing that must be fixed."""
    return Finding(what, State.BROKEN, found, remedy)


def unknown(what: str, found: str, remedy: str) -> Finding:
    """Report a thing that could not be examined."""
    return Finding(what, State.UNKNOWN, found, remedy)


def last_line(text: str) -> str:
    """Return the last line of a program's errors."""
    return (text.strip().splitlines() or ["no message"])[-1]


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if anything must be fixed, else 0."""
    return int(any(finding.state is State.BROKEN for finding in findings))


def print_report(title: str, findings: Sequence[Finding], as_json: bool = False) -> None:
    """Print findings as a table, or as a JSON list of their fields."""
    if as_json:
        print(hidden(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "what", "found", "remedy", title=title, show_lines=any(finding.remedy for finding in findings))
    for finding in findings:
        # Texts of a cluster may hold what rich would take for its markup.
        cells = (MARKS[finding.state], finding.what, finding.found, finding.remedy)
        table.add_row(*(Text(hidden(cell)) for cell in cells))
    console = Console(width=None if sys.stdout.isatty() else LEAST_WIDTH)
    console.print(table)
    count = sum(finding.state is State.BROKEN for finding in findings)
    console.print(f"{count} to fix" if count else "nothing to fix", highlight=False)
