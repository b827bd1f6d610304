"""Parts of messages."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 5
"""Names in a message; the rest is counted."""


def printable(text: str) -> str:
    """Replace control characters other than line ends, which could steer a terminal.

    >>> printable("a\\x1b[2Jb")
    'a�[2Jb'
    """
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def listed(names: Iterable[str], most: int = SHOWN, separator: str = ", ") -> str:
    """Join the first of `names` and the number of the others.

    >>> listed("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    everything = list(names)
    rest = len(everything) - most
    return separator.join(everything[:most]) + (f" and {rest} more" if rest > 0 else "")
