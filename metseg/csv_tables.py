"""Tables as CSV in which no spreadsheet takes a text for a formula."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal

Cell = str | int | float | Decimal
_FORMULA = "=+-@\N{MINUS SIGN}"


def csv_text(rows: Iterable[Sequence[Cell]]) -> str:
    """Return rows as CSV: numbers as they are, texts in quotation marks.

    The quotation marks keep a text in one cell where another separator than the comma is expected. A text that could
    begin a formula gets an apostrophe (OWASP, CSV injection).

    >>> csv_text([("=1+1", Decimal("-2.50"))]) == '"\\'=1+1",-2.50\\r\\n'
    True
    """
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def _text(text: str) -> str:
    """Return a text with an apostrophe if it begins like a formula.

    Spreadsheets drop blanks and control characters, and read full-width characters as their usual forms.
    """
    visible = (one for one in unicodedata.normalize("NFKD", text) if unicodedata.category(one)[0] not in "CMZ")
    return f"'{text}" if next(visible, "x") in _FORMULA else text
