"""What depends on the place: read from the environment once, at the door."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from metseg import environment
from metseg.errors import UsageError
from metseg.retry_deadline import IN_POD

MODEL_NAME = "brain-mets-segmentation"
"""The registered model of the phantom cohort, and wherever no other is named."""

QUIET = {
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "ERROR",
    "TF_ENABLE_ONEDNN_OPTS": "1",
}
"""Defaults of every process of ours: nothing phones home, nothing is unpickled, TensorFlow is quiet and fast.

oneDNN halves the CPU time of an epoch where TensorFlow leaves it off. The two switches of multipart transfers keep
MLflow's client from following presigned URLs to a store that MLflow alone may be able to reach.
"""


def apply_defaults() -> None:
    """Put `QUIET` under what the environment holds, and our own variables over `MLFLOW_*` and `AWS_*`."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    environment.prepare()


REQUIRED_IN_POD = (environment.TRACKING_URI, "METSEG_MODEL_SERVER", "METSEG_RECONCILER")
"""Without these a step would fall back to files of its own pod."""


def _require_in_pod() -> None:
    missing = [name for name in REQUIRED_IN_POD if IN_POD in os.environ and not os.environ.get(name)]
    if missing:
        raise UsageError(
            f"this pod lacks {', '.join(missing)}: the ConfigMap metseg-settings of the namespace of runs has them; "
            "apply an overlay of infra/kubernetes, and see `metseg doctor --cluster`"
        )


@dataclass(frozen=True)
class Settings:
    """Where things are kept.

    Attributes:
        workspace: folder of everything below (`METSEG_WORKSPACE`, the current folder).
        data: the phantom cohort (`METSEG_DATA`, `data`).
        runs: one folder a run (`METSEG_RUNS`, `runs`).
        model_base_path: where versions are published (`METSEG_MODEL_BASE_PATH`, `var/serving`).
        state: checkpoints of trainings under way (`METSEG_STATE`, `var/state`).
        tracking_uri: MLflow (`METSEG_MLFLOW_TRACKING_URI`, else `MLFLOW_TRACKING_URI`, else SQLite in `var/mlflow.db`).
        artifact_root: where MLflow keeps artifacts of a SQLite store (`METSEG_ARTIFACT_ROOT`, `var/mlartifacts`).
        model_server: HOST:PORT of the model server on the folder of published versions; empty: promotion examines
            versions with an embedded one (`METSEG_MODEL_SERVER`).
        served_base_path: `model_base_path` as that server sees it, where that differs (`METSEG_SERVED_BASE_PATH`).
        reconciler: `elsewhere` where `metseg reconcile` runs beside the server and promotion only moves aliases and
            waits for it; `here` where promotion publishes by itself (`METSEG_RECONCILER`).
    """

    workspace: Path
    data: Path
    runs: Path
    model_base_path: Path
    state: Path
    tracking_uri: str
    artifact_root: str
    model_server: str = ""
    served_base_path: Path | None = None
    reconciler: str = "here"

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other; raises UsageError."""
        if self.reconciler not in ("here", "elsewhere"):
            raise UsageError(f"METSEG_RECONCILER is {self.reconciler!r}; expected here or elsewhere")

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment, after `apply_defaults`; relative paths are taken from the workspace.

        Raises:
            UsageError: settings contradict each other, or a pod of Kubeflow lacks one.
        """
        apply_defaults()
        _require_in_pod()
        workspace = Path(os.environ.get("METSEG_WORKSPACE", ".")).resolve()

        def folder(name: str, default: str) -> Path:
            return workspace / os.environ.get(name, default)

        return cls(
            workspace=workspace,
            data=folder("METSEG_DATA", "data"),
            runs=folder("METSEG_RUNS", "runs"),
            model_base_path=folder("METSEG_MODEL_BASE_PATH", "var/serving"),
            state=folder("METSEG_STATE", "var/state"),
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace}/var/mlflow.db",
            artifact_root=os.environ.get("METSEG_ARTIFACT_ROOT", (workspace / "var/mlartifacts").as_uri()),
            model_server=os.environ.get("METSEG_MODEL_SERVER", ""),
            served_base_path=Path(served) if (served := os.environ.get("METSEG_SERVED_BASE_PATH")) else None,
            reconciler=os.environ.get("METSEG_RECONCILER", "here"),
        )

    def to_environment(self) -> dict[str, str]:
        """The same settings, absolute, for a child process."""
        return {
            "METSEG_WORKSPACE": str(self.workspace),
            "METSEG_DATA": str(self.data),
            "METSEG_RUNS": str(self.runs),
            "METSEG_MODEL_BASE_PATH": str(self.model_base_path),
            "METSEG_STATE": str(self.state),
            environment.TRACKING_URI: self.tracking_uri,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "METSEG_ARTIFACT_ROOT": self.artifact_root,
            "METSEG_MODEL_SERVER": self.model_server,
            "METSEG_SERVED_BASE_PATH": str(self.served_base_path or ""),
            "METSEG_RECONCILER": self.reconciler,
        }
