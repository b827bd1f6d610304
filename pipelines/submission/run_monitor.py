"""Monitor a run on Kubeflow to its end, through outages of the API."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from metseg.errors import KubeflowError, MetsegError, NotKnown, UsageError
from pipelines.console import Bars, PodLog
from pipelines.submission.argo_nodes import ENDED, FAILED, RUNNING, Nodes, StepStatus
from pipelines.submission.kubeflow_client import Kubeflow, NotThere, Unreachable
from pipelines.submission.pipeline_package import Specification, Step
from pipelines.submission.pod_events import Cluster, describe, node_message
from pipelines.submission.submit import RUN_ENDED

logger = logging.getLogger(__name__)

CANCELLED = ("CANCELING", "CANCELED")
INTERVAL = 5.0
"""Seconds between two requests for the run's state."""
LOG_INTERVAL = 10.0
"""Minimum seconds between two reads of a pod's log; slow logs are read less often."""
LOG_SHARE = 20
"""Pause after reading a log, as a multiple of the time that it took."""
OUTAGE_SECONDS = 600.0
"""Seconds that Kubeflow may be away before the monitor gives up; the run itself continues."""
LONG_WAIT = 120.0
"""Seconds after which a waiting pod is reported."""
TERMINATED = re.compile(r"workflow deadline|[Tt]erminate")
"""Argo's message about a terminated run: Kubeflow sets its deadline to now."""
LAUNCHER_LINE = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ |time=\S+ level=|Error: exit status \d+$")
"""A line of Kubeflow's launcher, or of Argo around it."""
EXIT = re.compile(r"failed to execute component: (.+)|Component failed to execute successfully: (.+)")


def specification_of(kubeflow: Kubeflow, run: Any, submitted: Specification | None = None) -> Specification | None:
    """Return the pipeline of a run; None if it is not known.

    Its sources are the run, its version and the submission.
    """
    if specification := Specification.from_response(run.pipeline_spec):
        return specification
    reference = run.pipeline_version_reference
    if reference and reference.pipeline_id and reference.pipeline_version_id:
        request = kubeflow.pipelines.pipeline_service_get_pipeline_version
        try:
            version = kubeflow.call(
                "reading the pipeline of the run", request, reference.pipeline_id, reference.pipeline_version_id
            )
        except KubeflowError as error:
            logger.warning("%s", error)
        else:
            if specification := Specification.from_response(version.pipeline_spec):
                return specification
    return submitted


@dataclass
class Follower:
    """Monitor of one run: prints each change of state.

    Attributes:
        kubeflow: connection to Kubeflow.
        run: its id.
        console: of the user.
        submitted: its pipeline, if this process submitted it.
        interval: seconds between two requests for its state.
        log_interval: minimum seconds between two reads of a log.
        long_wait: seconds after which a waiting pod is reported.
        sleep: function that waits.
    """

    kubeflow: Kubeflow
    run: str
    console: Console
    submitted: Specification | None = None
    interval: float = field(default_factory=lambda: INTERVAL)
    log_interval: float = field(default_factory=lambda: LOG_INTERVAL)
    long_wait: float = field(default_factory=lambda: LONG_WAIT)
    sleep: Callable[[float], None] = time.sleep
    _steps: list[Step] | None = None
    _reported: dict[str, str] = field(default_factory=dict)
    _waiting: dict[str, float] = field(default_factory=dict)
    _logs: dict[str, PodLog] = field(default_factory=dict)
    _due: dict[str, float] = field(default_factory=dict)
    _next_report: dict[str, float] = field(default_factory=dict)
    _cancelled: bool = False

    def __post_init__(self) -> None:
        self._bars = Bars(self.console)
        self._cluster = Cluster(self.kubeflow.pod_namespace)

    def follow(self) -> Any:
        """Wait for the run's end and return the run.

        Raises:
            RunFailed: it failed or was terminated.
            NotKnown: Kubeflow can no longer be reached; the run continues.
            UsageError: the run does not exist.
        """
        try:
            run, nodes = self._to_the_end()
        except MetsegError as error:
            raise self._lost(error) from error
        finally:
            self._bars.close()
        if run.state != "SUCCEEDED":
            terminated = self._terminated(run, nodes)
            raise RunFailed(self._failure(run, nodes, terminated), terminated)
        return run

    def _lost(self, error: MetsegError) -> MetsegError:
        """Return the error for a run whose state can't be read."""
        seen = self.submitted is not None or self._steps is not None
        if isinstance(error, NotThere):
            if not seen:
                return UsageError(f"{error}. RUN is at the end of the address of the run's page, …/#/runs/details/RUN")
            return NotKnown(f"{error}. It existed before and was deleted; its result is not known")
        return NotKnown(f"{error}. {self.continues() if seen else unknown_state(self.run)}")

    def continues(self) -> str:
        """Return a message with the run's page and the command to follow it again."""
        return f"The run continues: {self._page()}; metseg submit --follow {self.run} follows it again"

    def _page(self) -> str:
        return self.kubeflow.page(f"runs/details/{self.run}")

    def _to_the_end(self) -> tuple[Any, Nodes]:
        silent_since = None
        while True:
            try:
                run = self.kubeflow.call("reading the run", self.kubeflow.runs.run_service_get_run, self.run)
                silent_since = None
                self._reported.pop("Kubeflow", None)
            except Unreachable:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > OUTAGE_SECONDS:
                    raise
                self._print_once("Kubeflow", "away", "Kubeflow does not respond: trying again; the run continues")
                self.sleep(self.interval)
                continue
            nodes = self._report(run)
            if run.state in RUN_ENDED:
                return run, nodes
            self.sleep(self.interval)

    def _report(self, run: Any) -> Nodes:
        """Report changes since the last call."""
        first = self._steps is None
        if self._steps is None:
            specification = specification_of(self.kubeflow, run, self.submitted)
            if specification is None:
                logger.warning("Kubeflow does not return the pipeline of this run: only its end is reported")
            self._steps = specification.steps() if specification else []
        if run.state in CANCELLED:
            self._cancelled = True
            self._print_once("run", run.state, "the run is being terminated")
        nodes = Nodes((run.run_details.task_details if run.run_details else None) or [], self._steps)
        ended = run.state in RUN_ENDED
        for step, status in nodes.statuses.items():
            if not ended or status.state in ENDED:
                # In a run that has ended no task runs, even if Kubeflow's record shows one.
                self._report_status(step, status)
            if first and (ended or status.state in ENDED):
                # Logs of tasks that ended before this process started are not shown.
                self._due[status.pod] = float("inf")
            self._read(step, status)
            if not ended:
                self._report_waiting(step.title, status)
                self._report_attempt(nodes.workflow, step, status)
        if not ended:
            for opening in nodes.openings():
                self._report_waiting("a pipeline", opening)
            self._report_stuck(run, nodes)
        self._count(run, nodes)
        return nodes

    def _print_once(self, about: str, state: str, line: str) -> None:
        """Print a line about a subject, once for each state."""
        if self._reported.get(about) != state:
            self._reported[about] = state
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _report_status(self, step: Step, status: StepStatus) -> None:
        if not status.state:
            return
        how = " (its result is taken from an earlier run)" if status.cached else ""
        shown = "waits for its pod" if status.waiting else status.state.lower()
        self._print_once(step.title, shown, f"{step.title}: {shown}{how}")

    def _count(self, run: Any, nodes: Nodes) -> None:
        steps = self._steps or []
        done = sum(status.state in ENDED for status in nodes.statuses.values())
        if run.state == "SUCCEEDED" and done < len(steps):
            line = f"Kubeflow's record of the tasks ends at {done} of {len(steps)}; the run itself succeeded"
            self._print_once("record", "ends", line)
            done = len(steps)
        at_work = [
            step.title
            for step, known in nodes.statuses.items()
            if known.state == RUNNING and not known.waiting and run.state not in RUN_ENDED
        ]
        running = ", ".join(at_work) if len(at_work) <= 2 else f"{len(at_work)} running"
        if steps and self._reported.get("tasks") != (count := f"{done} {running}"):
            self._reported["tasks"] = count
            self._bars.update("", "tasks", done, len(steps), running)

    def _read(self, step: Step, status: StepStatus) -> None:
        """Show new lines of the log of the step's pod."""
        if not status.pod or status.waiting or status.driver:
            return
        ended = status.state in ENDED or status.failed_attempt
        due = self._due.get(status.pod, 0.0)
        if due == float("inf") or (not ended and time.monotonic() < due):
            return
        started = time.monotonic()
        text = self.kubeflow.log(self.run, status.pod)
        log = self._logs.setdefault(status.pod, PodLog(step.title, self._bars))
        log.take(text, ended)
        pause = max(self.log_interval, LOG_SHARE * (time.monotonic() - started))
        self._due[status.pod] = float("inf") if ended else time.monotonic() + pause
        if ended:
            self._bars.remove(step.title)

    def _report_waiting(self, title: str, status: StepStatus) -> None:
        """Report why a pod waits; Kubeflow itself only reports that it is pending."""
        waiting = status.waiting
        if waiting is None:
            # A pod that runs has printed something, because the launcher prints first.
            waiting = not self._logs[status.pod].begun
        if not waiting:
            self._waiting.pop(status.pod, None)
            return
        now = time.monotonic()
        seen = self._waiting.setdefault(status.pod, now)
        began = (datetime.now(UTC) - status.since).total_seconds() if status.since else 0.0
        waited = max(now - seen, began)
        if waited <= self.long_wait or now < self._next_report.get(status.pod, 0.0):
            return
        self._next_report[status.pod] = now + self.long_wait
        why = self._cluster.why_waiting(status.pod)
        command = describe(self.kubeflow.namespace, status.pod)
        line = f"{title} has waited {_span(waited)} for its {_kind(status)} {status.pod}: "
        self._print_once(status.pod, f"waits {why}", line + (why or f"reason not known; {command} shows it"))

    def _report_stuck(self, run: Any, nodes: Nodes) -> None:
        """Report a run that Argo's controller has not started."""
        waited = (datetime.now(UTC) - run.created_at).total_seconds() if run.created_at else 0.0
        if not nodes.workflow and waited > self.long_wait:
            command = f"kubectl -n {self.kubeflow.pod_namespace} get workflows,pods -l pipeline/runid={self.run}"
            line = f"the run has not started for {_span(waited)}: does Argo's controller run? {command} shows it"
            self._print_once("beginning", "waits", line)

    def _report_attempt(self, workflow: str, step: Step, status: StepStatus) -> None:
        """Report a failed attempt of a step that may be retried."""
        if status.failed_attempt and self._reported.get(status.pod) != FAILED:
            why = self._why_failed(workflow, status)
            line = f"attempt {status.attempt + 1} failed (pod {status.pod}); the step may be retried: {why}"
            self._print_once(status.pod, FAILED, f"{step.title}: {line}")

    def _own_message(self, status: StepStatus) -> tuple[str, str]:
        """Return the step's own error message, and the log if it was read."""
        log = self._logs.get(status.pod)
        if log is not None and log.error:
            return log.error, ""
        text = self.kubeflow.log(self.run, status.pod)
        own = PodLog("", Bars(Console(quiet=True)))
        own.take(text, ended=True)
        return own.error, text

    def _why_failed(self, workflow: str, status: StepStatus) -> str:
        """Return the reason why a pod failed.

        The step's own message precedes the end of its log and Argo's message.
        """
        own, text = self._own_message(status)
        if own:
            return own
        reasons = [ending(text), self._cluster.message(workflow, status.node)]
        command = node_message(self.kubeflow.namespace, workflow, status.node)
        return "; ".join(filter(None, reasons)) or f"it has no log; {command} shows why"

    def _failure(self, run: Any, nodes: Nodes, terminated: bool) -> str:
        """Return the message about a run that did not succeed."""
        problems = ["the run was terminated by a user, not by a step"] if terminated else []
        for step, status in nodes.statuses.items():
            where = f"({_kind(status)} {status.pod})"
            if status.state == FAILED and not terminated:
                problems.append(f"{step.title}: {self._why_failed(nodes.workflow, status)} {where}")
            elif status.pod and status.state in (FAILED, RUNNING):
                # A step that seems to run may have failed later, if Kubeflow's record of the tasks ended early.
                own, _ = self._own_message(status)
                problems += [f"{step.title}: {own} {where}"] if own else []
        for opening in nodes.openings():
            if opening.state == FAILED and not problems:
                why = self._why_failed(nodes.workflow, opening)
                problems.append(f"a pipeline did not start: {why} ({_kind(opening)} {opening.pod})")
        if run.error and run.error.message:
            problems.append(run.error.message)
        problems = problems or [f"the run ended as {str(run.state).lower()}, but no task reports a failure"]
        return ". ".join([*problems, self._page()])

    def _terminated(self, run: Any, nodes: Nodes) -> bool:
        states = {status.state for status in run.state_history or ()} | {run.state}
        texts = [run.error.message if run.error else "", self._cluster.message(nodes.workflow, nodes.workflow)]
        return self._cancelled or bool(states & set(CANCELLED)) or any(TERMINATED.search(text or "") for text in texts)


class RunFailed(KubeflowError):
    """A run ended without success.

    Args:
        message: reason.
        terminated: whether a user ended it.
    """

    def __init__(self, message: str, terminated: bool) -> None:
        super().__init__(message)
        self.terminated = terminated


def unknown_state(run: str) -> str:
    """Return the message about a run whose state is not known."""
    return f"The state of the run is not known: metseg submit --follow {run} tries again"


def ending(log: str) -> str:
    """Return the last line of a pod's log, and the launcher's reason of its end."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    own = next((line for line in reversed(lines) if not LAUNCHER_LINE.match(line)), "")
    ended = next((match[1] or match[2] for line in reversed(lines) if (match := EXIT.search(line))), "")
    return "; ".join(filter(None, [own, ended]))[:600]


def _kind(status: StepStatus) -> str:
    return "driver" if status.driver else "pod"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
