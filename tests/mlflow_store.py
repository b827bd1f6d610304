"""Databases of MLflow for tests that need one each: MLflow takes a second of processor time to make one."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path


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
