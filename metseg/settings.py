"""Settings that depend on the place, from the environment: folders and addresses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from metseg.environment_settings import EnvironmentSettings
from metseg.errors import UsageError
from metseg.process_environment import TRACKING_URI, apply_defaults
from metseg.retry_deadline import IN_POD
from metseg.workspace import require_place

REQUIRED_IN_POD = (TRACKING_URI, "METSEG_MODEL_SERVER", "METSEG_RECONCILER")
"""Without these a step would fall back to files of its own pod."""


class Settings(EnvironmentSettings):
    """Folders and addresses; relative paths are taken from the workspace.

    Attributes:
        workspace: folder of everything below (`METSEG_WORKSPACE`, the current folder).
        data: the phantom cohort (`METSEG_DATA`, `data`).
        runs: one folder a run (`METSEG_RUNS`, `runs`).
        model_base_path: folder of published versions (`METSEG_MODEL_BASE_PATH`, `var/serving`).
        state: checkpoints of unfinished training runs, and caches (`METSEG_STATE`, `var/state`).
        tracking_uri: MLflow (`METSEG_MLFLOW_TRACKING_URI`, else `MLFLOW_TRACKING_URI`, else SQLite in `var/mlflow.db`).
        artifact_root: MLflow's artifacts of a SQLite store (`METSEG_ARTIFACT_ROOT`, `var/mlartifacts`).
        model_server: HOST:PORT of the model server on the folder of published versions; empty: promotion verifies
            versions with an embedded one (`METSEG_MODEL_SERVER`).
        served_base_path: `model_base_path` as that server sees it, if it differs (`METSEG_SERVED_BASE_PATH`).
        reconciler: `elsewhere` if `metseg reconcile` runs next to the server, and promotion only moves aliases and
            waits for it; `here` if promotion publishes by itself (`METSEG_RECONCILER`).
    """

    workspace: Path = Path()
    data: Path = Path("data")
    runs: Path = Path("runs")
    model_base_path: Path = Path("var/serving")
    state: Path = Path("var/state")
    tracking_uri: str = Field(default="", validation_alias="MLFLOW_TRACKING_URI", repr=False)
    artifact_root: str = ""
    model_server: str = ""
    served_base_path: Path | None = None
    reconciler: Literal["here", "elsewhere"] = Field(default="here", description="here or elsewhere")

    @field_validator("workspace")
    @classmethod
    def _absolute(cls, workspace: Path) -> Path:
        return workspace.resolve()

    @field_validator("data", "runs", "model_base_path", "state")
    @classmethod
    def _below_workspace(cls, folder: Path, given: ValidationInfo) -> Path:
        workspace: Path = given.data["workspace"]
        return workspace / folder

    @field_validator("tracking_uri", "artifact_root")
    @classmethod
    def _below_var(cls, uri: str, given: ValidationInfo) -> str:
        folder = given.data["workspace"] / "var"
        defaults = {"tracking_uri": f"sqlite:///{folder}/mlflow.db", "artifact_root": (folder / "mlartifacts").as_uri()}
        return uri or defaults[str(given.field_name)]

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment, after `apply_defaults`.

        Raises:
            UsageError: a setting is invalid, or missing in a pod of Kubeflow; or the workspace was copied or moved.
        """
        settings = cls.of_any_place()
        require_place(settings.workspace)
        return settings

    @classmethod
    def of_any_place(cls) -> Self:
        """Read the environment, also for a workspace that was copied or moved.

        Raises:
            UsageError: a setting is invalid, or missing in a pod of Kubeflow.
        """
        apply_defaults()
        missing = [name for name in REQUIRED_IN_POD if IN_POD in os.environ and not os.environ.get(name)]
        if missing:
            raise UsageError(
                f"this pod lacks {', '.join(missing)}: the ConfigMap metseg-settings of the namespace of runs has "
                "them; apply an overlay of infra/kubernetes, and see `metseg doctor --cluster`"
            )
        return super().from_environment()

    def to_environment(self) -> dict[str, str]:
        """Return the same settings, absolute, for a child process."""
        own = {f"METSEG_{name.upper()}": str(value or "") for name, value in self if name != "tracking_uri"}
        return {**own, TRACKING_URI: self.tracking_uri, "MLFLOW_TRACKING_URI": self.tracking_uri}
