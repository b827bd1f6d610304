"""The tables of docs/validation.md are the checks of the code."""

from __future__ import annotations

from pathlib import Path

from metseg.validation.expectations import Expected, drift_expectations, expectations
from tests.validation.cohorts import sound

PAGE = Path(__file__).resolve().parents[2] / "docs" / "validation.md"


def as_row(one: Expected) -> str:
    return f"| {one.name} | {one.table} | {one.severity} | {one.remedy} |"


def test_every_check_is_documented_as_it_is() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    documented = [row for row in rows if not row.startswith("| check |")]
    assert documented == [as_row(one) for one in (*expectations(sound()[0]), *drift_expectations())]
