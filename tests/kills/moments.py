"""When the steps are killed: each at three moments, told by what can be seen of it from outside."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.kills.end_state import database
from tests.kills.launcher import Attempt


@dataclass(frozen=True)
class Seen:
    """What can be seen of an attempt.

    Attributes:
        attempt: what it printed.
        workspace: what it left there.
    """

    attempt: Attempt
    workspace: Path

    def printed(self, text: str) -> bool:
        """Whether a line holds a text."""
        return any(text in line for line in self.attempt.lines)

    def written(self, pattern: str) -> bool:
        """Whether the step's outputs hold such a file."""
        return any(self.attempt.task.folder.glob(pattern))

    def kept(self, artifact: str) -> bool:
        """Whether a run in MLflow holds such a file."""
        return any((self.workspace / "var/mlartifacts").glob(f"*/artifacts/{artifact}"))

    def published(self, version: int) -> bool:
        """Whether a model server can see a version."""
        return any((self.workspace / "var/serving").glob(f"*/{version}"))

    def recorded(self, rows: str) -> bool:
        """Whether MLflow's database has such rows (`FROM …`)."""
        try:
            connection = database(self.workspace)
        except sqlite3.OperationalError:  # not made yet
            return False
        try:
            return bool(connection.execute(f"SELECT 1 FROM {rows} LIMIT 1").fetchone())
        except sqlite3.OperationalError:  # being made
            return False
        finally:
            connection.close()


Reached = Callable[[Seen], bool]

TRAINING = "SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId'"

CHAMPION = "evaluate_champion"
"""The step that needs a champion, and so an earlier run."""

MOMENTS: dict[str, dict[str, Reached]] = {
    "check": {
        "it began": lambda seen: seen.printed("::step check"),
        "the configuration is written": lambda seen: seen.written("configuration/configuration.json"),
        "its duration is on record": lambda seen: seen.written("configuration/step.json"),
    },
    "ingest": {
        "it reads cases": lambda seen: seen.printed("reading cases"),
        "the run is opened": lambda seen: seen.recorded("runs"),
        "the manifest is in MLflow": lambda seen: seen.kept("data/manifest.json"),
    },
    "validate": {
        "it judges": lambda seen: seen.written("validation/data_docs"),
        "the verdict is in MLflow": lambda seen: seen.kept("validation/verdict.json"),
        "the counts are in MLflow": lambda seen: seen.recorded("metrics WHERE key LIKE 'validation.%'"),
    },
    "preprocess": {
        "one case is prepared": lambda seen: seen.written(".records.*/*/*.npy"),
        "all cases are in place": lambda seen: seen.written("records/preprocessing.json"),
        "the page is written": lambda seen: seen.written("page"),
    },
    "train": {
        "the run is opened": lambda seen: seen.recorded(f"runs WHERE run_uuid IN ({TRAINING})"),
        "two of three epochs are done": lambda seen: seen.printed("epoch 2/3"),
        "the run is closed": lambda seen: seen.recorded(f"runs WHERE status = 'FINISHED' AND run_uuid IN ({TRAINING})"),
    },
    "evaluate": {
        "it scored the patients": lambda seen: seen.printed("served graph differs"),
        "the scores are in MLflow as a file": lambda seen: seen.kept("evaluation/evaluation.json"),
        "the scores are in MLflow as metrics": lambda seen: seen.recorded("metrics WHERE key = 'test_dice'"),
    },
    "register": {
        "the verdict is in MLflow": lambda seen: seen.kept("verdict.json"),
        "the version is registered": lambda seen: seen.recorded("model_versions"),
        "the version is challenger": lambda seen: seen.recorded("registered_model_aliases"),
    },
    "promote": {
        "the version is published": lambda seen: seen.published(1),
        "the alias is moved": lambda seen: seen.recorded("registered_model_aliases WHERE alias = 'champion'"),
        "the run is closed": lambda seen: seen.recorded(
            f"runs WHERE status = 'FINISHED' AND run_uuid NOT IN ({TRAINING})"
        ),
    },
    CHAMPION: {
        "the champion's record is here": lambda seen: seen.written("evaluation/training.json"),
        "it scored the patients": lambda seen: seen.printed("served graph differs"),
        "the scores are written": lambda seen: seen.written("evaluation/evaluation.json"),
    },
}
