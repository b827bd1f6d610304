"""What a person sees of a run, on a terminal and in a log."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time

import pytest
from rich.console import Console

from components.step_execution import ERROR_TAG
from metseg.progress import LOG_TAG, STEP_TAG, TAG, Progress
from pipelines.console import Bars, PodLog, StepConsole


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


def test_the_first_failed_task_is_named_with_the_last_line_before_its_end():
    # As kfp.local 2.17 printed it of a step in a container that lacked a package, and of the steps after it.
    lines = (
        "Traceback (most recent call last):",
        "ModuleNotFoundError: No module named 'pydicom'",
        "09:35:52.165 - ERROR - Task \x1b[96m'train'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m",
        "ModuleNotFoundError: No module named 'another'",
        "09:36:10.015 - ERROR - Task 'train-2' finished with status FAILURE",
        "09:36:10.415 - INFO - Task 'evaluate-champion' finished with status SUCCESS",
        "--------------------------------------------------------------------------------",
    )
    _, _, out = shown(False, *lines)
    assert out.failure == "train (ModuleNotFoundError: No module named 'pydicom')" and out.error is None


def test_a_log_gets_a_line_now_and_then_only():
    screen, _, _ = shown(False, *(progress(done) for done in range(1, 10)))
    assert [line.strip() for line in screen.splitlines()] == ["reading cases 1/9 x", "reading cases 9/9 x"]


def test_logs_of_several_pods_are_shown_once_each_under_their_titles():
    screen = io.StringIO()
    bars = Bars(Console(file=screen, width=100))
    first, second = PodLog("ingest", bars), PodLog("nested_unet › train", bars)
    log = f"I1127 20:53:03.8 14 main.go:67] noise\n{LOG_TAG}12 patients\n{progress(4)}\n{LOG_TAG}cut o"
    first.take(log)
    first.take(log)
    second.take(progress(9) + "\n", ended=True)
    first.take(log + 'ff\n::error {"step": "ingest", "message": "m", "code": 1}\n', ended=True)
    lines = [line.strip() for line in screen.getvalue().splitlines()]
    assert lines == [
        "ingest: 12 patients",
        "ingest: reading cases 4/9 x",
        "nested_unet › train: reading cases 9/9 x",
        "ingest: cut off",
    ]
    assert first.error == "m" and second.error == "" and first.begun


def test_bars_of_several_pods_move_at_once_on_a_terminal():
    screen = io.StringIO()
    bars = Bars(Console(file=screen, force_terminal=True, width=100))
    bars.update("", "tasks", 1, 13, "train")
    PodLog("train", bars).take(progress(4) + "\n")
    bars.remove("train")
    bars.update("", "tasks", 2, 13)
    bars.close()
    assert "train: reading cases" in screen.getvalue() and "2/13" in screen.getvalue()


@pytest.mark.parametrize("line", [TAG + '{"label": "cut', TAG + "3", ERROR_TAG + "{", TAG + '{"done": 1}'])
def test_line_that_was_cut_off_is_passed_over(line):
    screen = io.StringIO()
    log = PodLog("train", Bars(Console(file=screen)))
    log.take(line + "\n", ended=True)
    assert screen.getvalue() == "" and log.error == ""


@pytest.mark.parametrize(("mode", "seconds", "lines"), [("lines", 5, 21), ("log", 5, 2), ("log", 45, 6), ("", 5, 0)])
def test_pods_print_a_tagged_line_in_ten_seconds_where_a_runner_gets_four_a_second(
    monkeypatch, capsys, mode, seconds, lines
):
    monkeypatch.setenv("METSEG_PROGRESS", mode)
    clock = iter(range(10**6))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 20)
    with Progress("training", 20 * seconds) as shown_progress:
        for done in range(1, 20 * seconds + 1):
            shown_progress.update(done)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(TAG)]
    assert abs(len(told) - lines) <= 1 and (not told or json.loads(told[-1].removeprefix(TAG))["done"] == 20 * seconds)
