"""prepare.py as MLflow's pod runs it, from what Secrets hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.infra.rendering import KUBERNETES

PREPARE = KUBERNETES / "base/services/mlflow/prepare.py"


def prepare(folder: Path, uri: str, logins: str, password: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run prepare.py.

    Args:
        folder: for the file of logins.
        uri: database.
        logins: content of that file.
        password: the administrator's.
        environment: further variables.
    """
    file = folder / "basic_auth.ini"
    file.write_text(logins)
    settings = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_AUTH_CONFIG_PATH": str(file),
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        **environment,
    }
    return subprocess.run([sys.executable, PREPARE], env=settings, capture_output=True, text=True, check=False)
