"""Output of the steps for the terminal.

Tagged lines become bars and text; the rest stays in a log.
"""

from __future__ import annotations

import io
import json
import re
import time
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from components.step_execution import ERROR_TAG
from metseg.progress import LOG_EVERY_SECONDS, LOG_TAG, STEP_TAG, TAG

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
FAILED = re.compile(r" - ERROR - Task '(.+)' finished with status FAILURE$")
"""The line by which `kfp.local` ends a failed task."""


class Bars:
    """Progress of concurrent pieces of work: bars on a terminal, lines in a log.

    Args:
        console: for bars and lines.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Progress | None = None
        self._rows: dict[str, tuple[TaskID, str]] = {}
        self._told: dict[str, tuple[str, float]] = {}

    def update(self, key: str, label: str, done: int, total: int, detail: str = "") -> None:
        """Show how far a piece of work is.

        Args:
            key: of the piece; another label under the same key replaces the one before.
            label: what is being done.
            done: parts that are finished.
            total: parts in all.
            detail: a figure worth watching.
        """
        if not self.console.is_terminal:
            before, at = self._told.get(key, ("", 0.0))
            now = time.monotonic()
            if label != before or done == total or now - at > LOG_EVERY_SECONDS:
                self._told[key] = (label, now)
                line = f"  {label} {done}/{total} {detail}".rstrip()
                self.console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        row, before = self._rows.get(key, (None, ""))
        if self._live is None or row is None or before != label:
            self.remove(key)
            self._live = self._live or self._started()
            row = self._live.add_task(label, total=total, detail=detail)
            self._rows[key] = (row, label)
        self._live.update(row, completed=done, total=total, detail=detail)

    def _started(self) -> Progress:
        live = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self.console,
            # Else rich takes `sys.stdout` away, which may be the very object that the steps print into.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start()
        return live

    def remove(self, key: str) -> None:
        """Stop updating a piece's bar, and leave it above those that move."""
        row, _ = self._rows.pop(key, (None, ""))
        if self._live is None or row is None:
            return
        if not self._rows:
            self.close()
        else:
            self._live.remove_task(row)

    def close(self) -> None:
        """Take the bars off the terminal."""
        if self._live is not None:
            self._live.stop()
        self._live = None
        self._rows.clear()
        self._told.clear()


class StepConsole(io.TextIOBase):
    """Filter of the steps' output for the terminal; a file gets all of it.

    Args:
        console: for bars and lines.
        log: file that keeps every line.

    Attributes:
        error: the message that a failed step reported, with its code; None until then.
        failure: the first failed task and the last line before its end, mostly that of an exception; empty until then.
    """

    def __init__(self, console: Console, log: TextIO) -> None:
        super().__init__()
        self.console = console
        self.log = log
        self.error: dict[str, Any] | None = None
        self.failure = ""
        self._last = ""
        self._buffer = ""
        self._bars = Bars(console)

    def write(self, text: str) -> int:
        """Take what was printed."""
        self._buffer += text
        while "\n" in self._buffer:
            line, self._buffer = self._buffer.split("\n", 1)
            self._line(ESCAPES.sub("", line).strip())
        return len(text)

    def _line(self, line: str) -> None:
        if not line:
            return
        if line.startswith(TAG):
            self._bars.update("", **json.loads(line.removeprefix(TAG)))
            return
        self.log.write(line + "\n")
        self.log.flush()
        if line.startswith(ERROR_TAG):
            self.error = json.loads(line.removeprefix(ERROR_TAG))
            return
        if line.startswith(STEP_TAG):
            self._bars.close()
            self.console.print(f"[bold]▸ {line.removeprefix(STEP_TAG)}[/bold]", highlight=False)
            return
        if (failed := FAILED.search(line)) and not self.failure:
            self.failure = f"{failed[1]} ({self._last})"
        self._last = line
        if line.startswith(LOG_TAG):
            self.console.print(f"  {line.removeprefix(LOG_TAG)}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._buffer:
            self.write("\n")
        self._bars.close()
        super().close()


class PodLog:
    """The log of one pod; every line is shown once.

    The whole log is read each time.

    Args:
        title: of the step.
        bars: where its progress goes.

    Attributes:
        error: the step's own message, where it failed; empty until then.
        begun: whether there is anything in the log.
    """

    def __init__(self, title: str, bars: Bars) -> None:
        self.title = title
        self.error = ""
        self.begun = False
        self._bars = bars
        self._read = 0

    def take(self, text: str, ended: bool = False) -> None:
        """Show what is new in the log.

        Args:
            text: the whole log until now.
            ended: whether nothing can follow; until then a last line without an end is left for later.
        """
        lines = text.split("\n") if ended else text.split("\n")[:-1]
        latest: dict[str, Any] = {}
        for raw in lines[self._read :]:
            line = ESCAPES.sub("", raw).strip()
            if line.startswith(TAG) and (fields := _fields(line.removeprefix(TAG))):
                latest = fields
            elif line.startswith(LOG_TAG):
                shown = f"  {self.title}: {line.removeprefix(LOG_TAG)}"
                self._bars.console.print(shown, markup=False, highlight=False, soft_wrap=True)
            elif line.startswith(ERROR_TAG):
                self.error = str(_fields(line.removeprefix(ERROR_TAG)).get("message", ""))
        self._read = max(self._read, len(lines))
        self.begun = self.begun or bool(text)
        if {"label", "done", "total", "detail"} <= set(latest):
            label = f"{self.title}: {latest['label']}"
            self._bars.update(self.title, label, latest["done"], latest["total"], latest["detail"])


def _fields(text: str) -> dict[str, Any]:
    """Return the fields of a tagged line; none if it was cut off."""
    try:
        fields = json.loads(text)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
