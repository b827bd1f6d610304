"""The MLflow run of the pipeline, which ingest opens and every later step finds in the outputs it is given."""

from __future__ import annotations

from pathlib import Path

from metseg.files import read_json, write_json

FILE = "run.json"


def write_run(folder: Path, run: str) -> None:
    """Note the run's id in the output of a step."""
    write_json(folder / FILE, {"run": run})


def read_run(folder: Path) -> str:
    """Return the run's id from the output of ingest or validate."""
    return str(read_json(folder / FILE)["run"])
