"""Parts of messages."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 5
"""Names in a message; the rest is counted."""


def listed(names: Iterable[str], most: int = SHOWN, separator: str = ", ") -> str:
    """Join the first of `names` and the number of the others.

    >>> listed("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    everything = list(names)
    rest = len(everything) - most
    return separator.join(everything[:most]) + (f" and {rest} more" if rest > 0 else "")
