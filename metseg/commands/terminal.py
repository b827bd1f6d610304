"""The console that commands print to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LOG_WIDTH = 120
"""Columns of tables that are not printed to a terminal."""


def console(log_width: int = LOG_WIDTH) -> Console:
    """Return a console on standard output, `log_width` columns wide in a log."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else log_width)
