"""Environment of every step: logging, duration and memory on record, readable errors."""

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

from metseg.errors import MetsegError
from metseg.process_environment import apply_defaults
from metseg.progress import LOG_TAG, STEP_TAG, tagged_lines
from metseg.report.step_record import STEP_RECORD, StepCost, StepRecord
from metseg.tracking.mlflow_errors import explained

ERROR_TAG = "::error "


def process_age() -> float:
    """Return the seconds since this process started: the duration of a step includes its imports."""
    import psutil

    return time.time() - float(psutil.Process(os.getpid()).create_time())


@contextmanager
def executing(step: str, folder: str, after: Sequence[str] = ()) -> Iterator[Path]:
    """Run the body as the step `step`, whose main output is `folder`.

    Afterwards `folder/step.json` holds the step's name, seconds and peak memory, and the same of the steps before it.
    A `MetsegError`, or an error of MLflow or its storage, ends the process with a message alone; any other error keeps
    its traceback, because it is a defect.

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
        address = os.environ.get("MLFLOW_TRACKING_URI", "")
        readable = error if isinstance(error, MetsegError) else explained(error, address)
        if readable is None:
            raise
        fields = {"step": step, "message": str(readable), "code": readable.exit_code}
        print(ERROR_TAG + json.dumps(fields), flush=True)
        sys.exit(1)
    path.mkdir(parents=True, exist_ok=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    StepRecord(step, round(process_age(), 1), memory, _costs_before(after)).write(path / STEP_RECORD)


def _costs_before(outputs: Sequence[str]) -> tuple[StepCost, ...]:
    """Return the costs of these steps and of those before them, each once."""
    costs: dict[str, StepCost] = {}
    for output in outputs:
        record = StepRecord.read(Path(output) / STEP_RECORD)
        for cost in (*record.before, record):
            costs.setdefault(cost.step, StepCost(cost.step, cost.seconds, cost.peak_memory_mb))
    return tuple(costs.values())
