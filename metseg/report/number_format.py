"""Formats of figures in a page: digits, units, intervals, durations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 3) -> str:
    """Format a score with a fixed number of digits.

    Below a thousandth it is a power of ten. None and NaN are a dash.
    """
    if value is None or not math.isfinite(value):
        return "–"
    shown = f"{value:.1e}" if value and abs(value) < 10 ** -max(digits, 3) else f"{value:.{digits}f}"
    return shown.replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Format a difference with its sign; a dash for None and NaN."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+.{digits}f}".replace("-", MINUS)


def interval(ends: Sequence[float] | None, shown: Callable[[float], str] = number) -> str:
    """Format both ends, separated by a dash; empty for None.

    A word separates them if a minus could be mistaken for the dash.
    """
    if ends is None:
        return ""
    return (" to " if min(ends) < 0 or shown is signed else "–").join(shown(end) for end in ends)


def signed_interval(ends: Sequence[float] | None) -> str:
    """Format both ends with their signs; empty for None."""
    return interval(ends, signed)


def percent(fraction: float | None) -> str:
    """Format a fraction in per cent with two digits; a dash for None."""
    return "–" if fraction is None else f"{100 * fraction:.2f} %"


def grouped(count: int) -> str:
    """Format a count with its digits in groups of three."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def duration(seconds: float) -> str:
    """Format seconds: `12.3 s`, `4 min 05 s`, `1 h 02 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def volume_unit(unit: str) -> str:
    """Return the unit of a volume for lengths in `unit`."""
    return "mm³" if unit == "mm" else "voxels"
