"""No spreadsheet takes a text of ours for a formula, and numbers stay numbers."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest

from metseg.csv_tables import csv_text

FORMULAS = (
    "=cmd|' !A0", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u00a0=1", "\u3000=1", "\u200b=1",
    "\ufeff=1", "\u00ad=1", "\x00=1", "\x7f=1", "\u202e=1", "\ufe0f=1", "\u0338=1", "＝1", "＋1", "－1", "＠x", "﹦1",
    "﹣1", "⁺1", "₌1", "−1", "≠1", " \t＝1",
)  # fmt: skip
TEXTS = ("patient-1", "p=1", "sub 01", "(a)", "_x", "<svg onload=x>", "ä", "", "'=1", "日本")


def cells(text: str, **options: str) -> list[str]:
    (row,) = csv.reader(io.StringIO(text, newline=""), **options)
    return row


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_could_begin_a_formula_gets_an_apostrophe(text):
    assert cells(csv_text([[text, 1]])) == [f"'{text}", "1"]


@pytest.mark.parametrize("text", TEXTS)
def test_any_other_text_stays(text):
    assert cells(csv_text([[text, 1]])) == [text, "1"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_text_is_one_cell_whatever_separator_is_expected(separator):
    first = cells(csv_text([[f"x{separator}=1", f'"{separator}=2']]), delimiter=separator)[0]
    assert first.startswith(f"x{separator}=1")


def test_numbers_are_written_as_they_are():
    assert csv_text([[-3, -2.5, Decimal("-2.50"), 1e-9, True]]) == "-3,-2.5,-2.50,1e-09,True\r\n"
