"""Options of a command line that were given, and hold nothing."""

from __future__ import annotations

from collections.abc import Mapping

from metseg.errors import UsageError


def refuse_empty(options: Mapping[str, str | None]) -> None:
    """Refuse options whose value is empty or blank, as a shell gives them for a variable that is not set.

    Args:
        options: values by the option's name; None for one that was not given.

    Raises:
        UsageError: one is empty.
    """
    for option, value in options.items():
        if value is not None and not value.strip():
            raise UsageError(f'{option} "": the value is empty (an unset variable?); give one, or leave {option} out')
