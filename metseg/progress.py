"""Report progress: a bar on a terminal, lines in a log.

A step of a local run prints tagged lines (`METSEG_PROGRESS=lines`), which the runner draws as a bar. A pod of Kubeflow
prints fewer of them (`METSEG_PROGRESS=log`, its default), because its log is stored; `metseg submit --wait` reads them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

logger = logging.getLogger(__name__)
Item = TypeVar("Item")

TAG = "::progress "
LOG_TAG = "::log "
STEP_TAG = "::step "
PIPE, LOG = "lines", "log"
LOG_EVERY_SECONDS = 10.0
LINES_EVERY_SECONDS = 0.25


def _mode() -> str:
    return os.environ.get("METSEG_PROGRESS") or (LOG if "KFP_POD_NAME" in os.environ else "")


def tagged_lines() -> bool:
    """Return whether a runner reads this process's output."""
    return _mode() in (PIPE, LOG)


class Progress:
    """Work of known length; use as a context manager and call `update`.

    Args:
        label: of the work, for the user.
        total: number of parts.
    """

    def __init__(self, label: str, total: int) -> None:
        self.label = label
        self.total = total
        self._last = 0.0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if not tagged_lines() and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, detail="")
        self._last = time.monotonic()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, detail: str = "") -> None:
        """Report that `done` of `total` parts are finished, with a detail."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self.total, detail=detail)
            return
        now = time.monotonic()
        into_a_pipe = _mode() == PIPE
        if done < self.total and now - self._last < (LINES_EVERY_SECONDS if into_a_pipe else LOG_EVERY_SECONDS):
            return
        self._last = now
        if tagged_lines():
            fields = {"label": self.label, "done": done, "total": self.total, "detail": detail}
            print(TAG + json.dumps(fields), flush=True)
        else:
            logger.info("%s %d/%d %s", self.label, done, self.total, detail)

    def report(self, done: int, total: int) -> None:
        """Report `done` of `total` parts, if only the work itself knows the total."""
        self.total = total
        self.update(done)


def track(items: Sequence[Item] | Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over `items`, reporting progress after each."""
    length = total if total is not None else len(items)  # type: ignore[arg-type]
    with Progress(label, length) as progress:
        for done, item in enumerate(items, 1):
            yield item
            progress.update(done)
