"""Record of the run that ingest leaves for later steps: `run.json`."""

from __future__ import annotations

from dataclasses import dataclass

from metseg.records import Record

RUN_RECORD = "run.json"


@dataclass(frozen=True)
class RunRecord(Record):
    """One run of the pipeline.

    Attributes:
        run: its id in MLflow.
        champion: version that the run competes with; None if there was no champion when it began.
    """

    run: str
    champion: int | None = None
