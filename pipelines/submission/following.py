"""Following a run on Kubeflow to its end, through an API that may go away for a while, and reading its verdict."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from metseg.errors import KubeflowError, MetsegError, NotRegistered, UsageError
from metseg.progress import Progress
from metseg.settings import Settings
from metseg.tracking import runs
from metseg.tracking.kubeflow import RUN_TAG
from pipelines.submission.client import Kubeflow, Unreachable

logger = logging.getLogger(__name__)

ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
INTERVAL = 5.0
"""Seconds between two looks."""
PATIENCE = 600.0
"""Seconds that Kubeflow may be away before following is given up; the run does not need us."""
LONG_WAIT = 600.0
"""Seconds after which a task that has no pod yet is spoken of."""


@dataclass
class Follower:
    """Tells what happens to a run.

    Attributes:
        kubeflow: where it runs.
        run: its id.
        interval: seconds between two looks.
        long_wait: seconds after which a task that does not start is spoken of.
        sleep: waits.
    """

    kubeflow: Kubeflow
    run: str
    interval: float
    long_wait: float = LONG_WAIT
    sleep: Callable[[float], None] = time.sleep
    _told: dict[str, str] = field(default_factory=dict)
    _pending: dict[str, float] = field(default_factory=dict)

    def follow(self, tasks: int) -> Any:
        """Wait for the run's end and give the run as it is then.

        Args:
            tasks: how many it has.

        Raises:
            KubeflowError: it failed or was ended; or Kubeflow does not answer any more, and then the run goes on.
        """
        silent_since = None
        with Progress("tasks", tasks) as progress:
            while True:
                try:
                    run = self.kubeflow.call("looking at the run", self.kubeflow.runs.run_service_get_run, self.run)
                    silent_since = None
                except Unreachable as error:
                    silent_since = silent_since or time.monotonic()
                    if time.monotonic() - silent_since > PATIENCE:
                        raise KubeflowError(f"{error}. {self.goes_on()}") from error
                    self._say("Kubeflow", "away", "Kubeflow does not answer: looking again; the run goes on")
                    self.sleep(self.interval)
                    continue
                except KubeflowError as error:
                    raise KubeflowError(f"{error}. {self.goes_on()}") from error
                self._tell(run, progress)
                if run.state in ENDED:
                    break
                self.sleep(self.interval)
        if run.state != "SUCCEEDED":
            raise KubeflowError(self._failure(run))
        return run

    def goes_on(self) -> str:
        """Where to look at a run that is followed no more."""
        return f"The run goes on: {self.kubeflow.page(f'runs/details/{self.run}')}"

    def _tell(self, run: Any, progress: Progress) -> None:
        tasks = _tasks(run)
        for name, task in tasks.items():
            took = f" after {(task.end_time - task.start_time).total_seconds():.0f} s" if _timed(task) else ""
            self._say(name, task.state, f"{name}: {str(task.state).lower()}{took if task.state in ENDED else ''}")
            self._waiting(name, task)
        done = sum(task.state in ENDED for task in tasks.values())
        running = ", ".join(name for name, task in tasks.items() if task.state == "RUNNING")
        progress.update(min(done, progress.total), running)

    def _say(self, name: str, state: str, line: str) -> None:
        if self._told.get(name) != state:
            self._told[name] = state
            logger.info("%s", line)

    def _waiting(self, name: str, task: Any) -> None:
        """Speak of a task that does not start: Kubeflow itself calls it pending, whatever the reason."""
        if task.state != "PENDING":
            self._pending.pop(name, None)
            return
        since = self._pending.setdefault(name, time.monotonic())
        if time.monotonic() - since > self.long_wait:
            self._pending[name] = float("inf")
            pod = f" describe pod {task.pod_name}" if task.pod_name else " get events"
            namespace = f" -n {self.kubeflow.namespace}" if self.kubeflow.namespace else ""
            logger.warning(
                "%s has waited %.0f s for its pod: no node has room for it (an accelerator?), or its image cannot be "
                "pulled; kubectl%s%s says which",
                name, self.long_wait, namespace, pod,
            )  # fmt: skip

    def _failure(self, run: Any) -> str:
        failed = [
            f"{name}{f' ({task.error.message})' if task.error and task.error.message else ''}"
            for name, task in _tasks(run).items()
            if task.state == "FAILED"
        ]
        said = f" ({run.error.message})" if run.error and run.error.message else ""
        where = f"; failed: {', '.join(failed)}" if failed else ""
        return (
            f"the run {str(run.state).lower()}{said}{where}. The failed task's log says why: "
            f"{self.kubeflow.page(f'runs/details/{self.run}')}"
        )


def _tasks(run: Any) -> dict[str, Any]:
    """The run's tasks by name, without what Kubeflow runs around them."""
    details = (run.run_details.task_details if run.run_details else None) or []
    named = {str(task.display_name or task.task_id): task for task in details}
    return {
        name: task
        for name, task in named.items()
        if name not in ("root", "executor") and not name.endswith(("-driver", " driver"))
    }


def _timed(task: Any) -> bool:
    # What has not happened yet has the time 0 in Kubeflow's answers.
    return bool(task.start_time and task.end_time and task.end_time >= task.start_time)


def mlflow_page(run: Any) -> str:
    """Address in MLflow of the run that Kubeflow itself opened there; empty where it opened none."""
    output = (run.plugins_output or {}).get("mlflow")
    entry = (output.entries or {}).get("run_url") if output else None
    return str(entry.value) if entry and entry.value else ""


def require_mlflow() -> None:
    """Hold to it, before a run is started, that its verdict can be read at its end.

    Raises:
        UsageError: no MLflow is named.
        MetsegError: it does not answer.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise UsageError(
            "--wait ends with the verdict, which MLflow has: set MLFLOW_TRACKING_URI to the one that the pipeline "
            "writes to (kubectl port-forward -n metseg svc/mlflow 5000, then http://localhost:5000)"
        )
    runs.client(Settings.from_environment())


def verdict(run: str) -> str:
    """What the gate said of a run, in a line, as MLflow has it.

    Raises:
        NotRegistered: it registered nothing.
        MetsegError: MLflow does not know.
    """
    settings = Settings.from_environment()
    tracking = runs.client(settings)
    everywhere = [experiment.experiment_id for experiment in tracking.search_experiments()]
    found = tracking.search_runs(everywhere, f"tags.`{RUN_TAG}` = '{run}' and tags.`metseg.kind` = 'pipeline'")
    outcome = found[0].data.tags.get("verdict", "") if found else ""
    if not outcome:
        raise MetsegError(
            f"the run succeeded, but MLflow at {settings.tracking_uri} has no verdict of the Kubeflow run {run}: is it "
            "the MLflow that the pipeline writes to?"
        )
    winner, number = found[0].data.tags.get("winner", ""), found[0].data.tags.get("registered.version", "")
    if outcome != "promote":
        raise NotRegistered(f"the gate said {outcome}: nothing was registered, and what is served stays")
    return f"the gate passed {winner}: registered as version {number}"
