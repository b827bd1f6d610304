"""Check of command-line options with an empty value."""

from __future__ import annotations

from collections.abc import Mapping

from metseg.errors import UsageError


def refuse_empty(options: Mapping[str, str | None]) -> None:
    """Refuse options with an empty or blank value, such as an unset shell variable.

    Args:
        options: values by the option's name; None for one that was not given.

    Raises:
        UsageError: one is empty.
    """
    for option, value in options.items():
        if value is not None and not value.strip():
            raise UsageError(f'{option} "": the value is empty (an unset variable?); give one, or leave {option} out')
