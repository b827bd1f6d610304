"""Status of a run's steps, derived from Kubeflow's entries of Argo's nodes.

An entry holds the ids of its node's children, and no id of its own; names of entries are not unique (each step has an
`executor`). But a node's id is computed from its full name, and the full name follows from the specification: so the
entry of a node is the one with its last name whose children include a node that only it can have. The nodes of a run
have one of two shapes: with the retries that Kubeflow 2.17 adds to every template (`step`, then `step(0)` and
further attempts), or without.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.submission.pipeline_package import Step

MOST_ATTEMPTS = 20
"""Highest number of attempts of one node."""
PENDING, RUNNING, SUCCEEDED, SKIPPED, FAILED = "PENDING", "RUNNING", "SUCCEEDED", "SKIPPED", "FAILED"
ENDED = (SUCCEEDED, SKIPPED, FAILED)
NOT_STARTED = ""
DRIVER_TEMPLATE, DAG_DRIVER_TEMPLATE = "system-container-driver", "system-dag-driver"


def fnv1a(text: str) -> int:
    """Return the 32-bit FNV-1a hash (draft-eastlake-fnv, 2), which Argo's node ids contain."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def node_id(workflow: str, name: str) -> str:
    """Return the id of a node; the workflow's own node has its name."""
    return workflow if name == workflow else f"{workflow}-{fnv1a(name)}"


def pod_name(workflow: str, template: str, name: str) -> str:
    """Return the name of a node's pod."""
    return f"{workflow}-{template}-{fnv1a(name)}"


@dataclass(frozen=True)
class StepStatus:
    """Status of a step.

    Attributes:
        state: one of Kubeflow's states; empty before the step starts.
        pod: name of its latest pod; empty if it has none (not started, or its result came from the cache).
        node: id of that pod's node in Argo.
        attempt: number of the latest attempt, from 0.
        waiting: whether that pod does not run yet; None if the entries do not show it.
        since: when the latest attempt began.
        failed_attempt: whether the latest attempt failed and the step will be retried.
        driver: whether `pod` is the driver, which prepares the step, and waits or failed.
    """

    state: str = NOT_STARTED
    pod: str = ""
    node: str = ""
    attempt: int = 0
    waiting: bool | None = False
    since: datetime | None = None
    failed_attempt: bool = False
    driver: bool = False

    @property
    def cached(self) -> bool:
        """True if the result was taken from an earlier run."""
        return self.state in (SUCCEEDED, SKIPPED) and not self.pod


class Nodes:
    """The nodes of one run, from one response.

    Args:
        entries: `task_details` of the response, as the generated client has them.
        steps: of the pipeline.
    """

    def __init__(self, entries: Iterable[Any], steps: Iterable[Step]) -> None:
        # An entry without a name is a task of another kind: it describes an execution, not a node.
        self._entries = [entry for entry in entries if entry.display_name]
        self._children = [{child.pod_name for child in entry.child_tasks or ()} for entry in self._entries]
        self._known: set[str] = set().union(*self._children)
        self.workflow = next((child.rpartition("-")[0] for child in sorted(self._known)), "")
        self._own: dict[str, list[str]] = {}
        self._drivers: list[str] = []
        bases = {step: self._enumerate(step) for step in steps} if self.workflow else {}
        self._identified = {
            name: entry for name, own in self._own.items() if (entry := self._entry(name, own)) is not None
        }
        identified = {id(entry) for entry in self._identified.values()}
        self._leaves = [entry for entry in self._entries if id(entry) not in identified]
        self.statuses = {step: self._status(base, step) for step, base in bases.items()}

    def openings(self) -> list[StepStatus]:
        """Return the status of pipelines' drivers that wait or failed, nested pipelines included."""
        statuses = [self._driver(driver, DAG_DRIVER_TEMPLATE) for driver in self._drivers]
        return [status for status in statuses if status.state]

    def _enumerate(self, step: Step) -> str:
        """Record possible children of the nodes on the path to a step.

        Returns:
            The step's node.
        """
        node = self._inside(self.workflow)
        for name in ("root", *step.path[:-1]):
            base = self._task(node, name)
            if (driver := f"{base}-driver") not in self._drivers:
                self._drivers.append(driver)
            node = self._inside(base)
        base = self._task(node, step.path[-1])
        executor = f"{self._inside(base)}.executor"
        self._own.setdefault(self._inside(base), []).append(executor)
        self._inside(executor)
        return base

    def _task(self, node: str, name: str) -> str:
        """Record a task and its driver as children of a node; return the task's node."""
        base, driver = f"{node}.{name}", f"{node}.{name}-driver"
        self._own.setdefault(node, []).extend([driver, base])
        self._own.setdefault(self._inside(driver), []).append(base)
        return base

    def _inside(self, name: str) -> str:
        """Return the node that holds a node's children: its latest attempt, or itself."""
        attempts = self._attempts(name)
        self._own[name] = attempts or self._own.get(name, [])
        return (attempts or [name])[-1]

    def _status(self, base: str, step: Step) -> StepStatus:
        dag = (self._attempts(base) or [base])[-1]
        executor, driver = f"{dag}.executor", f"{base}-driver"
        outer = self._state(base)
        if not self._is_known(executor):
            # A node that never started has an entry without a state.
            return self._driver(driver, DRIVER_TEMPLATE) if not outer else StepStatus(outer)
        state = outer if outer in ENDED else RUNNING
        attempts = self._attempts(executor)
        latest = attempts[-1] if attempts else executor
        around = self._identified.get(executor if attempts else dag)
        candidates = self._candidates(latest, around if len(attempts) <= 1 else None)
        if state == RUNNING:
            # A step that still runs has no current pod that succeeded.
            candidates = [entry for entry in candidates if entry.state not in (SUCCEEDED, SKIPPED)] or candidates
        states = {entry.state for entry in candidates}
        if states == {SKIPPED}:
            return StepStatus(state)
        sure = candidates[0] if len(candidates) == 1 or len(states) == 1 else None
        return StepStatus(
            state=state,
            pod=pod_name(self.workflow, step.template, latest),
            node=self._id(latest),
            attempt=max(len(attempts) - 1, 0),
            waiting=state == RUNNING and (states == {PENDING} if sure or PENDING not in states else None),
            since=_time(sure.start_time if sure else around.start_time if around else None),
            failed_attempt=state == RUNNING and states == {FAILED},
        )

    def _driver(self, name: str, template: str) -> StepStatus:
        """Return the status of a driver that waits or failed; else an empty status."""
        if not self._is_known(name):
            return StepStatus()
        pod = (self._attempts(name) or [name])[-1]
        candidates = self._candidates(pod, self._identified.get(name))
        waiting = {entry.state for entry in candidates} == {PENDING}
        state = PENDING if waiting else FAILED if self._state(name) == FAILED else NOT_STARTED
        if not state:
            return StepStatus()
        since = _time(candidates[0].start_time) if waiting else None
        return StepStatus(
            state, pod_name(self.workflow, template, pod), self._id(pod), waiting=waiting, since=since, driver=True
        )

    def _id(self, name: str) -> str:
        return node_id(self.workflow, name)

    def _is_known(self, name: str) -> bool:
        return self._id(name) in self._known

    def _attempts(self, name: str) -> list[str]:
        """Return the names of a node's attempts; empty if it is not retried."""
        return [attempt for number in range(MOST_ATTEMPTS) if self._is_known(attempt := f"{name}({number})")]

    def _entry(self, name: str, own: Iterable[str]) -> Any | None:
        """Return the entry of a node, recognised by children that only this node can have."""
        ids = {self._id(child) for child in own}
        for entry, children in zip(self._entries, self._children, strict=True):
            if entry.display_name == _last(name) and children & ids:
                return entry
        return None

    def _state(self, name: str) -> str:
        """Return the state of a node; empty if it is unknown or not started."""
        own = self._identified.get(name)
        states = {entry.state for entry in ([own] if own else self._candidates(name, None))}
        return (states.pop() or NOT_STARTED) if len(states) == 1 and (own or self._is_known(name)) else NOT_STARTED

    def _candidates(self, name: str, around: Any | None) -> list[Any]:
        """Return the entries that may belong to a node without children.

        Args:
            name: of the node.
            around: entry of the node that it is part of; both start at the same time.
        """
        matches = [entry for entry in self._leaves if entry.display_name == _last(name)]
        simultaneous = [entry for entry in matches if around is not None and entry.start_time == around.start_time]
        return simultaneous or matches


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _time(value: Any) -> datetime | None:
    """Return a time of a response; None for 0 and earlier, Kubeflow's value for "not yet"."""
    if not isinstance(value, datetime) or value.timestamp() <= 0:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
