"""How figures read in a page: digits, units, durations."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any, digits: int = 3) -> str:
    """A score for reading: a fixed number of digits, a power of ten below a thousandth, a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    shown = f"{value:.1e}" if value and abs(value) < 10 ** -max(digits, 3) else f"{value:.{digits}f}"
    return shown.replace("-", "\N{MINUS SIGN}")


def signed(value: float | None, digits: int = 3) -> str:
    """A difference for reading, with its sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def grouped(count: int) -> str:
    """A count for reading, its digits in groups of three."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def duration(seconds: float) -> str:
    """Seconds for reading: `12.3 s`, `4 min 05 s`, `1 h 02 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def volume_unit(unit: str) -> str:
    """The unit of a volume where lengths are in `unit`."""
    return "mm³" if unit == "mm" else "voxels"
