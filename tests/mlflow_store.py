"""Databases of MLflow for tests that need one each: MLflow takes a second of processor time to make one."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.tracking import model_registry
from metseg.tracking.serving_labels import CHAMPION, PREVIOUS

if TYPE_CHECKING:
    from mlflow import MlflowClient


@functools.cache
def _made_once() -> Path:
    from mlflow import MlflowClient

    path = Path(tempfile.mkdtemp()) / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def fresh_store(folder: Path) -> str:
    """Address of a database as MLflow makes it, in `folder`, which is made where it is missing.

    Example:
        >>> import tempfile
        >>> fresh_store(Path(tempfile.mkdtemp()))[:10]
        'sqlite:///'
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mlflow.db"
    if not path.exists():
        shutil.copyfile(_made_once(), path)
    return f"sqlite:///{path}"


def crown(tracking: MlflowClient, name: str, number: int) -> None:
    """Point `champion` at a version, and `previous` at the champion before it, as a promotion leaves them."""
    before = model_registry.version_of_alias(tracking, name, CHAMPION)
    if before is not None:
        tracking.set_registered_model_alias(name, PREVIOUS, str(before.number))
    tracking.set_registered_model_alias(name, CHAMPION, str(number))
