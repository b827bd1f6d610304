"""Five hundred damaged files: each is read right or refused by name, in little time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.imaging.damaged import DAMAGES, FILES, FORMATS


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Verdicts, seconds and peak memory of one process that reads all of them."""
    command = [sys.executable, "-m", "tests.imaging.damaged", str(tmp_path_factory.mktemp("damaged"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_damaged_files_are_read_right_or_refused_by_name(reading: dict[str, Any]) -> None:
    wrong = {name: said for name, said in reading["verdicts"].items() if said not in ("read", "refused")}
    assert wrong == {}
    assert len(reading["verdicts"]) == FILES


def test_every_damage_was_done_to_every_format(reading: dict[str, Any]) -> None:
    kinds = Counter(name.split("-", 1)[1] for name in reading["verdicts"])
    assert len(kinds) == len(FORMATS) * len({damage.__name__ for damage in DAMAGES})
    assert Counter(reading["verdicts"].values())["read"] > 50


def test_what_no_reader_could_make_sense_of_is_refused(reading: dict[str, Any]) -> None:
    hopeless = ("empty", "huge", "other_type", "bomb", "no_numbers")
    read = [name for name, said in reading["verdicts"].items() if said == "read" and any(h in name for h in hopeless)]
    assert read == []


def test_damaged_files_take_little_time_and_memory(reading: dict[str, Any]) -> None:
    slowest = max(reading["seconds"], key=reading["seconds"].get)
    assert reading["seconds"][slowest] < 3, slowest
    assert reading["peak"] < 1 << 30
