"""Following a run on Kubeflow to its end, through an API that may go away for a while."""

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
from pipelines.submission.argo_nodes import ENDED, FAILED, RUNNING, Nodes, Standing
from pipelines.submission.kubeflow_client import Kubeflow, NotThere, Unreachable
from pipelines.submission.pipeline_steps import Specification, Step
from pipelines.submission.pod_events import Cluster, describe, node_message
from pipelines.submission.submit import RUN_ENDED

logger = logging.getLogger(__name__)

CANCELLED = ("CANCELING", "CANCELED")
INTERVAL = 5.0
"""Seconds between two looks at the run."""
LOG_INTERVAL = 10.0
"""Least seconds between two readings of a pod's log; one that takes long to come is read more rarely."""
LOG_SHARE = 20
"""A log is left alone for this many times as long as reading it took."""
PATIENCE = 600.0
"""Seconds that Kubeflow may be away before following is given up; the run does not need us."""
LONG_WAIT = 120.0
"""Seconds after which a pod that does not run yet is spoken of."""
TERMINATED = re.compile(r"workflow deadline|[Tt]erminate")
"""What Argo says of a run that was ended from outside: Kubeflow sets its deadline to now."""
LAUNCHER_LINE = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ |time=\S+ level=|Error: exit status \d+$")
"""A line of Kubeflow's launcher, or of Argo around it."""
EXIT = re.compile(r"failed to execute component: (.+)|Component failed to execute successfully: (.+)")


def specification_of(kubeflow: Kubeflow, run: Any, submitted: Specification | None = None) -> Specification | None:
    """The pipeline of a run: from the run itself, its version, or what was submitted; None where nothing tells."""
    if found := Specification.from_answer(run.pipeline_spec):
        return found
    reference = run.pipeline_version_reference
    if reference and reference.pipeline_id and reference.pipeline_version_id:
        ask = kubeflow.pipelines.pipeline_service_get_pipeline_version
        try:
            version = kubeflow.call(
                "reading the pipeline of the run", ask, reference.pipeline_id, reference.pipeline_version_id
            )
        except KubeflowError as error:
            logger.warning("%s", error)
        else:
            if found := Specification.from_answer(version.pipeline_spec):
                return found
    return submitted


@dataclass
class Follower:
    """Tells what happens to a run.

    Attributes:
        kubeflow: where it runs.
        run: its id.
        console: where a person looks.
        submitted: its pipeline, where it was submitted from here.
        interval: seconds between two looks.
        log_interval: seconds between two readings of a log.
        long_wait: seconds after which a pod that does not run yet is spoken of.
        sleep: waits.
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
    _told: dict[str, str] = field(default_factory=dict)
    _waiting: dict[str, float] = field(default_factory=dict)
    _logs: dict[str, PodLog] = field(default_factory=dict)
    _due: dict[str, float] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)
    _cancelled: bool = False

    def __post_init__(self) -> None:
        self._bars = Bars(self.console)
        self._cluster = Cluster(self.kubeflow.pod_namespace)

    def follow(self) -> Any:
        """Wait for the run's end and give the run as it is then.

        Raises:
            RunFailed: it failed or was terminated.
            NotKnown: Kubeflow does not let us look any more; the run goes on.
            UsageError: there is no such run.
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
        """What to say where the run cannot be looked at."""
        seen = self.submitted is not None or self._steps is not None
        if isinstance(error, NotThere):
            if not seen:
                return UsageError(f"{error}. Take RUN from the address of the run's page, …/#/runs/details/RUN")
            return NotKnown(f"{error}. It was there before, so somebody deleted it: how it ended is not known")
        return NotKnown(f"{error}. {self.goes_on() if seen else asks_again(self.run)}")

    def goes_on(self) -> str:
        """Where to look at a run that is followed no more, and how to take it up again."""
        return f"The run goes on: {self._page()}; metseg submit --follow {self.run} takes it up again"

    def _page(self) -> str:
        return self.kubeflow.page(f"runs/details/{self.run}")

    def _to_the_end(self) -> tuple[Any, Nodes]:
        silent_since = None
        while True:
            try:
                run = self.kubeflow.call("looking at the run", self.kubeflow.runs.run_service_get_run, self.run)
                silent_since = None
                self._told.pop("Kubeflow", None)
            except Unreachable:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > PATIENCE:
                    raise
                self._say("Kubeflow", "away", "Kubeflow does not answer: looking again; the run goes on")
                self.sleep(self.interval)
                continue
            nodes = self._look(run)
            if run.state in RUN_ENDED:
                return run, nodes
            self.sleep(self.interval)

    def _look(self, run: Any) -> Nodes:
        """Tell what is new."""
        first = self._steps is None
        if self._steps is None:
            specification = specification_of(self.kubeflow, run, self.submitted)
            if specification is None:
                logger.warning("Kubeflow does not give the pipeline of this run: only its end is told")
            self._steps = specification.steps() if specification else []
        if run.state in CANCELLED:
            self._cancelled = True
            self._say("run", run.state, "the run is being terminated")
        nodes = Nodes((run.run_details.task_details if run.run_details else None) or [], self._steps)
        over = run.state in RUN_ENDED
        for step, standing in nodes.standings.items():
            if not over or standing.state in ENDED:
                # A run that is over has nothing under way, whatever Kubeflow's record of its tasks says.
                self._tell(step, standing)
            if first and (over or standing.state in ENDED):
                # What was over before anybody looked has said what it had to say.
                self._due[standing.pod] = float("inf")
            self._read(step, standing)
            if not over:
                self._tell_of_waiting(step.title, standing)
                self._tell_of_attempt(nodes.workflow, step, standing)
        if not over:
            for opening in nodes.openings():
                self._tell_of_waiting("a pipeline", opening)
            self._tell_of_beginning(run, nodes)
        self._count(run, nodes)
        return nodes

    def _say(self, about: str, state: str, line: str) -> None:
        """Say something about something once."""
        if self._told.get(about) != state:
            self._told[about] = state
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _tell(self, step: Step, standing: Standing) -> None:
        if not standing.state:
            return
        how = " (its result is taken from an earlier run)" if standing.cached else ""
        shown = "waits for its pod" if standing.waiting else standing.state.lower()
        self._say(step.title, shown, f"{step.title}: {shown}{how}")

    def _count(self, run: Any, nodes: Nodes) -> None:
        steps = self._steps or []
        done = sum(standing.state in ENDED for standing in nodes.standings.values())
        if run.state == "SUCCEEDED" and done < len(steps):
            line = f"Kubeflow's record of the tasks ends at {done} of {len(steps)}; the run itself succeeded"
            self._say("record", "ends", line)
            done = len(steps)
        over = run.state in RUN_ENDED
        at_work = [
            step.title
            for step, known in nodes.standings.items()
            if known.state == RUNNING and not known.waiting and not over
        ]
        running = ", ".join(at_work) if len(at_work) <= 2 else f"{len(at_work)} running"
        if steps and self._told.get("tasks") != (count := f"{done} {running}"):
            self._told["tasks"] = count
            self._bars.update("", "tasks", done, len(steps), running)

    def _read(self, step: Step, standing: Standing) -> None:
        """Show what the step's pod has printed since the last time."""
        if not standing.pod or standing.waiting or standing.driver:
            return
        ended = standing.state in ENDED or standing.failed_attempt
        due = self._due.get(standing.pod, 0.0)
        if due == float("inf") or (not ended and time.monotonic() < due):
            return
        started = time.monotonic()
        text = self.kubeflow.log(self.run, standing.pod)
        log = self._logs.setdefault(standing.pod, PodLog(step.title, self._bars))
        log.take(text, ended)
        pause = max(self.log_interval, LOG_SHARE * (time.monotonic() - started))
        self._due[standing.pod] = float("inf") if ended else time.monotonic() + pause
        if ended:
            self._bars.remove(step.title)

    def _tell_of_waiting(self, title: str, standing: Standing) -> None:
        """Speak of a pod that does not run: Kubeflow itself calls it pending, whatever the reason."""
        waiting = standing.waiting
        if waiting is None:
            # A pod that runs has printed something: the launcher begins with it.
            waiting = not self._logs[standing.pod].begun
        if not waiting:
            self._waiting.pop(standing.pod, None)
            return
        now = time.monotonic()
        seen = self._waiting.setdefault(standing.pod, now)
        began = (datetime.now(UTC) - standing.since).total_seconds() if standing.since else 0.0
        waited = max(now - seen, began)
        if waited <= self.long_wait or now < self._asked.get(standing.pod, 0.0):
            return
        self._asked[standing.pod] = now + self.long_wait
        why = self._cluster.why_waiting(standing.pod)
        command = describe(self.kubeflow.namespace, standing.pod)
        line = f"{title} has waited {_span(waited)} for its {_kind(standing)} {standing.pod}: "
        self._say(standing.pod, f"waits {why}", line + (why or f"Kubeflow does not say why; {command} does"))

    def _tell_of_beginning(self, run: Any, nodes: Nodes) -> None:
        """Speak of a run that nobody has begun: Argo's controller has made no node of it."""
        waited = (datetime.now(UTC) - run.created_at).total_seconds() if run.created_at else 0.0
        if not nodes.workflow and waited > self.long_wait:
            command = f"kubectl -n {self.kubeflow.pod_namespace} get workflows,pods -l pipeline/runid={self.run}"
            line = f"nothing of the run has begun for {_span(waited)}: does Argo's controller run? {command} tells"
            self._say("beginning", "waits", line)

    def _tell_of_attempt(self, workflow: str, step: Step, standing: Standing) -> None:
        """Speak of an attempt that failed while the step is tried again."""
        if standing.failed_attempt and self._told.get(standing.pod) != FAILED:
            why = self._why_failed(workflow, standing)
            line = f"attempt {standing.attempt + 1} failed (pod {standing.pod}); it may be tried again: {why}"
            self._say(standing.pod, FAILED, f"{step.title}: {line}")

    def _own_words(self, standing: Standing) -> tuple[str, str]:
        """The step's own message of why it failed, empty where it gave none; and its log, where that was needed."""
        log = self._logs.get(standing.pod)
        if log is not None and log.error:
            return log.error, ""
        text = self.kubeflow.log(self.run, standing.pod)
        own = PodLog("", Bars(Console(quiet=True)))
        own.take(text, ended=True)
        return own.error, text

    def _why_failed(self, workflow: str, standing: Standing) -> str:
        """Why a pod failed: in the step's own words, else how its log ends, else what Argo says or how to ask it."""
        own, text = self._own_words(standing)
        if own:
            return own
        said = [ending(text), self._cluster.message(workflow, standing.node)]
        command = node_message(self.kubeflow.namespace, workflow, standing.node)
        return "; ".join(filter(None, said)) or f"it has no log; {command} says why"

    def _failure(self, run: Any, nodes: Nodes, terminated: bool) -> str:
        """What to tell of a run that did not succeed."""
        told = ["the run was terminated by a person, not by a step"] if terminated else []
        for step, standing in nodes.standings.items():
            where = f"({_kind(standing)} {standing.pod})"
            if standing.state == FAILED and not terminated:
                told.append(f"{step.title}: {self._why_failed(nodes.workflow, standing)} {where}")
            elif standing.pod and standing.state in (FAILED, RUNNING):
                # One that was stopped has nothing to say; one that seems to run may have failed since, where
                # Kubeflow's record of the tasks ended early.
                own, _ = self._own_words(standing)
                told += [f"{step.title}: {own} {where}"] if own else []
        for opening in nodes.openings():
            if opening.state == FAILED and not told:
                why = self._why_failed(nodes.workflow, opening)
                told.append(f"a pipeline was not opened: {why} ({_kind(opening)} {opening.pod})")
        if run.error and run.error.message:
            told.append(run.error.message)
        told = told or [f"the run ended as {str(run.state).lower()}, and none of its tasks says that it failed"]
        return ". ".join([*told, self._page()])

    def _terminated(self, run: Any, nodes: Nodes) -> bool:
        states = {status.state for status in run.state_history or ()} | {run.state}
        said = [run.error.message if run.error else "", self._cluster.message(nodes.workflow, nodes.workflow)]
        return self._cancelled or bool(states & set(CANCELLED)) or any(TERMINATED.search(text or "") for text in said)


class RunFailed(KubeflowError):
    """A run ended without success.

    Args:
        message: why.
        terminated: whether a person ended it.
    """

    def __init__(self, message: str, terminated: bool) -> None:
        super().__init__(message)
        self.terminated = terminated


def asks_again(run: str) -> str:
    """How to ask for a run of which nothing is known from here."""
    return f"How the run stands is not known: metseg submit --follow {run} asks again"


def ending(log: str) -> str:
    """How the log of a pod ends: the last line of its own, and how the launcher says that it ended."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    own = next((line for line in reversed(lines) if not LAUNCHER_LINE.match(line)), "")
    ended = next((found[1] or found[2] for line in reversed(lines) if (found := EXIT.search(line))), "")
    return "; ".join(filter(None, [own, ended]))[:600]


def _kind(standing: Standing) -> str:
    return "driver" if standing.driver else "pod"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
