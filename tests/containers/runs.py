"""Commands of this project beside the services, and a run of the pipeline small enough for a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3

from tests.containers.stack import Stack

METSEG = str(Path(sys.executable).parent / "metseg")
MODEL = "brain-mets-segmentation"
BUCKET = "scans"
PATIENTS = 12
BUDGET = {
    "train_epochs": 3,
    "train_steps_per_epoch": 64,
    "train_batch_size": 4,
    "train_filters": 8,
    "train_depth": 3,
    "data_image_size": 64,
    "gate_dice": 0.0,
    "gate_lesion_f1": 0.0,
}


def s3(stack: Stack) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=stack.environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=stack.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=stack.environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )


def metseg(*arguments: str, workspace: Path, environment: dict[str, str], code: int = 0) -> str:
    """Standard output of a command in a workspace, with nothing of this machine's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_", "AWS_"))}
    answer = subprocess.run(
        [METSEG, *arguments],
        env={**kept, "METSEG_WORKSPACE": str(workspace), **environment},
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert answer.returncode == code, answer.stdout[-4000:] + answer.stderr[-4000:]
    return answer.stdout


def run(
    workspace: Path,
    reference: str,
    environment: dict[str, str],
    *options: str,
    promotion: str,
    **parameters: object,
) -> dict[str, Any]:
    """Summary of a run of the pipeline."""
    chosen = {**BUDGET, "model_name": MODEL, "gate_promotion": promotion, **parameters}
    given = [part for name, value in chosen.items() for part in ("--param", f"{name}={value}")]
    metseg("run", "--data", reference, *given, *options, workspace=workspace, environment=environment)
    return json.loads((workspace / "runs/latest/summary.json").read_text())  # type: ignore[no-any-return]
