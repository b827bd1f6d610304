"""What ingest notes of the run for later steps: its id in MLflow, and whether there is a champion to compete with."""

from __future__ import annotations

from pathlib import Path

from metseg.files import read_json, write_json

FILE = "run.json"
OPPONENT = "opponent.json"
NO_OPPONENT = {"absent": "there was no champion when this run began"}
"""Content of `evaluation.json` of a champion that does not exist."""


def write_run(folder: Path, run: str) -> None:
    """Note the run's id in the output of a step."""
    write_json(folder / FILE, {"run": run})


def read_run(folder: Path) -> str:
    """Return the run's id from the output of ingest or validate."""
    return str(read_json(folder / FILE)["run"])


def write_opponent(folder: Path, version: int | None) -> None:
    """Note the version that the run competes against; None where there was no champion."""
    write_json(folder / OPPONENT, {"version": version})


def has_opponent(folder: Path) -> bool:
    """Return, from the output of ingest, whether the run competes against a champion."""
    return read_json(folder / OPPONENT)["version"] is not None
