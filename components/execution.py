"""What surrounds every step: logging, its duration and memory on record, errors a person can read."""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metseg.errors import MetsegError
from metseg.files import read_json, write_json
from metseg.progress import LOG_TAG, STEP_TAG, tagged_lines
from metseg.settings import apply_defaults
from metseg.tracking.mlflow_errors import explained

ERROR_TAG = "::error "
STEP_RECORD = "step.json"


def process_age() -> float:
    """Seconds since this process started: the duration of a step counts its imports."""
    import psutil

    return time.time() - float(psutil.Process(os.getpid()).create_time())


@contextmanager
def executing(step: str, folder: str, after: Sequence[str] = ()) -> Iterator[Path]:
    """Run the body as the step `step`, whose main output is `folder`.

    Afterwards `folder/step.json` holds the step's name, seconds and peak memory, and the same of the steps before it.
    A `MetsegError`, and what MLflow or its storage cause, ends the process with a message alone; any other error keeps
    its traceback, for it is a defect.

    Args:
        step: name of the step.
        folder: its main output.
        after: main outputs of the steps that it follows.
    """
    apply_defaults()
    shape = LOG_TAG + "%(message)s" if tagged_lines() else "%(message)s"
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(shape))
    for ours in ("metseg", "components"):
        logger = logging.getLogger(ours)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", module="keras.*")
    for noisy in ("absl", "alembic", "great_expectations", "mlflow", "matplotlib", "py.warnings", "tensorflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if tagged_lines():
        print(STEP_TAG + step, flush=True)
    path = Path(folder)
    try:
        yield path
    except Exception as error:
        told = error if isinstance(error, MetsegError) else explained(error, os.environ.get("MLFLOW_TRACKING_URI", ""))
        if told is None:
            raise
        print(ERROR_TAG + json.dumps({"step": step, "message": str(told), "code": told.exit_code}), flush=True)
        sys.exit(1)
    path.mkdir(parents=True, exist_ok=True)
    record = {
        "step": step,
        "seconds": round(process_age(), 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "before": _before(after),
    }
    write_json(path / STEP_RECORD, record)


def _before(outputs: Sequence[str]) -> list[dict[str, Any]]:
    """Records of the steps that left these outputs, and of those before them, each once and in their order."""
    found: dict[str, dict[str, Any]] = {}
    for output in outputs:
        record = read_json(Path(output) / STEP_RECORD)
        for earlier in (*record.pop("before"), record):
            found.setdefault(earlier["step"], earlier)
    return list(found.values())
