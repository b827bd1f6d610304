"""What the register step is handed, made up but for MLflow, which is real; and the step run until it is killed."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metseg.dataset.manifest import Manifest
from metseg.saved_model_digest import saved_model_digest
from metseg.scoring.calibration import VoxelTally
from metseg.scoring.network_evaluation import Opponent, ServedCheck, ValidationScores
from metseg.scoring.patient_scores import mean_score, score_patient
from metseg.scoring.threshold_baseline import ThresholdBaseline
from metseg.scoring.unscored_champion import Absent
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.tracking.data_lineage import log_data
from metseg.training.result_records import EvaluationRecord
from metseg.validation.result import Finding, ValidationResult
from tests.training_records import COMMIT, training_record
from tests.validation.cohorts import CHANNELS, sound

IMAGE = "registry.example/metseg-train@sha256:" + "ab" * 32
TEST_PATIENTS = [f"patient {case}" for case in "klmno"]
GOOD = [0.80, 0.82, 0.78, 0.85, 0.81]

CUBE = np.zeros((5, 9, 9), bool)
CUBE[1:5, 2:6, 2:6] = True
CHANGES = (
    "create_registered_model",
    "create_model_version",
    "set_model_version_tag",
    "set_registered_model_alias",
    "log_artifact",
    "set_tag",
)
"""Methods of MLflow's client by which the step changes something."""


def judged(architecture: str, dices: Sequence[float], commit: str = COMMIT, **changes: Any) -> EvaluationRecord:
    """The record of a network with these Dice scores; `changes` are fields of it."""
    perfect = score_patient(CUBE, CUBE, (3.0, 1.0, 1.0), True)
    patients = {name: dataclasses.replace(perfect, dice=dice) for name, dice in zip(TEST_PATIENTS, dices, strict=True)}
    record = EvaluationRecord(
        architecture=architecture,
        channels=CHANNELS,
        labels=("1", "3"),
        validation=ValidationScores(float(np.mean(dices)), 0.8),
        patients=patients,
        training_patients=("patient a", "patient f"),
        served_check=ServedCheck(1e-7, True),
        training=training_record(architecture, CHANNELS, commit=commit),
        mean_scores={"dice": mean_score(patients, "dice")},
        savedmodel_sha256="ab" * 32,
        served_volumes_compared=4,
        threshold_baseline=ThresholdBaseline("t1c", 200, 0.3),
        voxels_in_head=VoxelTally().scores(),
    )
    return dataclasses.replace(record, **changes)


class Pipeline:
    """A run of the pipeline as far as the register step.

    Args:
        folder: empty folder to keep the steps' outputs in.
        model_name: registered model.
        networks: Dice scores of the test patients by architecture.
        champion: its evaluation; None for none.
        critical: names of expectations that failed critically.
        manifest: of the cohort; a sound one unless given.
        commit: that the networks were trained from.
        image: that they were trained in; empty for none.
        changes: fields of every network's record.
    """

    def __init__(
        self,
        folder: Path,
        model_name: str,
        networks: dict[str, Sequence[float]],
        champion: Opponent | None = None,
        critical: Sequence[str] = (),
        *,
        manifest: Manifest | None = None,
        commit: str = COMMIT,
        image: str = IMAGE,
        **changes: Any,
    ) -> None:
        self.folder, self.model_name, self.image = folder, model_name, image
        settings = Settings.from_environment()
        self.tracking = mlflow_runs.client(settings)
        self.run = mlflow_runs.start_run(self.tracking, settings, folder.name, {}, {"metseg.kind": "pipeline"})
        usual, rows = sound()
        self.manifest = manifest or usual
        (folder / "validation").mkdir(parents=True)
        self.manifest.write(folder / "validation" / "manifest.json")
        rows.to_parquet(folder / "validation" / "statistics.parquet", index=False)
        log_data(self.tracking, self.run, self.manifest, folder / "validation" / "manifest.json")
        self.records: dict[str, EvaluationRecord] = {}
        for name, dices in networks.items():
            record = judged(name, dices, commit, **changes)
            run, digest = self._train(settings, name)
            training = dataclasses.replace(record.training, run=run)
            self.records[name] = dataclasses.replace(record, training=training, savedmodel_sha256=digest)
            self.records[name].write(folder / name / "evaluation.json")
        (champion or Absent()).write(folder / "champion" / "evaluation.json")
        findings = [Finding(name, "critical", "it does not", (), "Mend it.") for name in critical]
        ValidationResult.of(findings, critical).write(folder / "validation" / "verdict.json")

    def _train(self, settings: Settings, architecture: str) -> tuple[str, str]:
        """A training's run that holds a model, and the model's digest."""
        tags = {"architecture": architecture, **({"container.image": self.image} if self.image else {})}
        run = mlflow_runs.start_run(self.tracking, settings, architecture, {}, tags, parent=self.run)
        saved_model = self.folder / f"{architecture}-model" / "tf2model"
        saved_model.mkdir(parents=True)
        (saved_model / "saved_model.pb").write_bytes(run.encode())
        (saved_model.parent / "MLmodel").write_text("flavors: {}\n")
        self.tracking.log_artifacts(run, str(saved_model.parent), "model")
        mlflow_runs.finish(self.tracking, run)
        return run, saved_model_digest(saved_model)

    def arguments(self, attempt: str = "registration") -> dict[str, Any]:
        """What the step is called with; each attempt has an output folder of its own."""
        return {
            "validation": self.folder / "validation",
            "evaluations": [self.folder / name for name in self.records],
            "champion": self.folder / "champion",
            "run": self.run,
            "model_name": self.model_name,
            "floor_dice": 0.5,
            "floor_lesion_f1": 0.3,
            "registration": self.folder / attempt,
        }


def register_until(killed_at: int, environment: dict[str, str], arguments: dict[str, Any]) -> None:
    """Run the step in this process, which kills itself after so many changes to MLflow."""
    import mlflow

    from components.register.step import register

    os.environ |= environment
    done = 0

    def dying(method: Any) -> Any:
        def call(*positional: Any, **named: Any) -> Any:
            nonlocal done
            result = method(*positional, **named)
            done += 1
            if done == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in CHANGES:
        setattr(mlflow.MlflowClient, name, dying(getattr(mlflow.MlflowClient, name)))
    register(**arguments)
