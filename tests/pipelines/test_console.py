"""What a person sees of a run, on a terminal and in a log."""

from __future__ import annotations

import contextlib
import io
import json
import sys

import pytest
from rich.console import Console

from metseg.progress import LOG_TAG, STEP_TAG, TAG
from pipelines.console import StepConsole


def shown(terminal: bool, *lines: str) -> tuple[str, str, StepConsole]:
    """What the lines of a step make of the screen and of the log file."""
    screen, log = io.StringIO(), io.StringIO()
    out = StepConsole(Console(file=screen, force_terminal=terminal, width=100), log)
    with contextlib.redirect_stdout(out):
        for line in lines:
            print("    " + line)
            assert sys.stdout is out, "the bar must not take the stream away"
    out.close()
    return screen.getvalue(), log.getvalue(), out


def progress(done: int) -> str:
    return TAG + json.dumps({"label": "reading cases", "done": done, "total": 9, "detail": "x"})


@pytest.mark.parametrize("terminal", [True, False])
def test_steps_lines_and_progress_are_shown_and_noise_is_not(terminal):
    lines = (
        STEP_TAG + "ingest",
        progress(1),
        LOG_TAG + "9 cases",
        progress(9),
        "I0000 noise of a library",
        '"epochs": 8',
    )
    screen, log, _ = shown(terminal, *lines)
    assert "▸ ingest" in screen and "9 cases" in screen and "reading cases" in screen and "9/9" in screen
    assert "noise" not in screen and "epochs" not in screen and "::" not in screen
    assert "noise of a library" in log and "9 cases" in log and TAG not in log


def test_an_error_is_kept_for_the_end_and_its_traceback_for_the_log():
    screen, _, out = shown(False, '::error {"step": "ingest", "message": "m", "code": 1}', "Traceback (most recent)")
    assert out.error == {"step": "ingest", "message": "m", "code": 1}
    assert "Traceback" not in screen


def test_a_log_gets_a_line_now_and_then_only():
    screen, _, _ = shown(False, *(progress(done) for done in range(1, 10)))
    assert [line.strip() for line in screen.splitlines()] == ["reading cases 1/9 x", "reading cases 9/9 x"]
