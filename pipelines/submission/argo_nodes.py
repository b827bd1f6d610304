"""Where a run's steps stand, read from the entries that Kubeflow gives of Argo's nodes.

An entry holds the ids of its node's children, and no id of its own; names of entries are not unique (each step has an
`executor`). But a node's id is computed from its full name, and the full name follows from the specification: so the
entry of a node is the one with its last name whose children include a node that only it can have. The nodes of a run
have one of two shapes: with the retries that Kubeflow 2.17 puts around every template (`step`, then `step(0)` and
further attempts), or without.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.submission.pipeline_steps import Step

MOST_ATTEMPTS = 20
"""Attempts of one node that are looked for."""
PENDING, RUNNING, SUCCEEDED, SKIPPED, FAILED = "PENDING", "RUNNING", "SUCCEEDED", "SKIPPED", "FAILED"
ENDED = (SUCCEEDED, SKIPPED, FAILED)
NOT_STARTED = ""
DRIVER_TEMPLATE, DAG_DRIVER_TEMPLATE = "system-container-driver", "system-dag-driver"


def fnv1a(text: str) -> int:
    """The 32-bit FNV-1a hash (draft-eastlake-fnv, 2), which Argo makes node ids of."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def node_id(workflow: str, name: str) -> str:
    """The id of the node called so; the workflow's own node has its name."""
    return workflow if name == workflow else f"{workflow}-{fnv1a(name)}"


def pod_name(workflow: str, template: str, name: str) -> str:
    """The pod of the node called so."""
    return f"{workflow}-{template}-{fnv1a(name)}"


@dataclass(frozen=True)
class Standing:
    """Where a step stands.

    Attributes:
        state: one of Kubeflow's states; empty before the step starts.
        pod: name of its latest pod; empty where it has none (not started, or its result came from the cache).
        node: id of that pod's node in Argo.
        attempt: number of the latest attempt, from 0.
        waiting: whether that pod does not run yet; None where the entries leave it open.
        since: when the latest attempt began.
        failed_attempt: whether the latest attempt failed while the step as a whole goes on.
        driver: whether `pod` is the driver's, which prepares the step, and waits or failed.
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
        """Whether the result was taken from an earlier run."""
        return self.state in (SUCCEEDED, SKIPPED) and not self.pod


class Nodes:
    """The nodes of one run, as one answer gives them.

    Args:
        entries: `task_details` of the answer, as the generated client has them.
        steps: of the pipeline.
    """

    def __init__(self, entries: Iterable[Any], steps: Iterable[Step]) -> None:
        # An entry without a name is a task of another kind: it tells of an execution, not of a node.
        self._entries = [entry for entry in entries if entry.display_name]
        self._children = [{child.pod_name for child in entry.child_tasks or ()} for entry in self._entries]
        self._known: set[str] = set().union(*self._children)
        self.workflow = next((child.rpartition("-")[0] for child in sorted(self._known)), "")
        self._own: dict[str, list[str]] = {}
        self._drivers: list[str] = []
        bases = {step: self._enumerate(step) for step in steps} if self.workflow else {}
        self._found = {name: entry for name, own in self._own.items() if (entry := self._entry(name, own)) is not None}
        identified = {id(entry) for entry in self._found.values()}
        self._leaves = [entry for entry in self._entries if id(entry) not in identified]
        self.standings = {step: self._standing(base, step) for step, base in bases.items()}

    def openings(self) -> list[Standing]:
        """Where the drivers of pipelines stand, of the whole one and of nested ones, that wait or failed."""
        found = [self._driver(driver, DAG_DRIVER_TEMPLATE) for driver in self._drivers]
        return [standing for standing in found if standing.state]

    def _enumerate(self, step: Step) -> str:
        """Note which children each node on the way to a step can have, and give the name of the step's own node."""
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
        """Note that a node has this task and its driver among its children, and give the name of the task's node."""
        base, driver = f"{node}.{name}", f"{node}.{name}-driver"
        self._own.setdefault(node, []).extend([driver, base])
        self._own.setdefault(self._inside(driver), []).append(base)
        return base

    def _inside(self, name: str) -> str:
        """The node that holds what a node consists of: its latest attempt where it has any, else itself."""
        attempts = self._attempts(name)
        self._own[name] = attempts or self._own.get(name, [])
        return (attempts or [name])[-1]

    def _standing(self, base: str, step: Step) -> Standing:
        dag = (self._attempts(base) or [base])[-1]
        executor, driver = f"{dag}.executor", f"{base}-driver"
        outer = self._state(base)
        if not self._is_known(executor):
            # A node whose turn never came has an entry without a state.
            return self._driver(driver, DRIVER_TEMPLATE) if not outer else Standing(outer)
        state = outer if outer in ENDED else RUNNING
        attempts = self._attempts(executor)
        latest = attempts[-1] if attempts else executor
        around = self._found.get(executor if attempts else dag)
        candidates = self._candidates(latest, around if len(attempts) <= 1 else None)
        if state == RUNNING:
            # What is still under way holds no pod that did well.
            candidates = [entry for entry in candidates if entry.state not in (SUCCEEDED, SKIPPED)] or candidates
        states = {entry.state for entry in candidates}
        if states == {SKIPPED}:
            return Standing(state)
        sure = candidates[0] if len(candidates) == 1 or len(states) == 1 else None
        return Standing(
            state=state,
            pod=pod_name(self.workflow, step.template, latest),
            node=self._id(latest),
            attempt=max(len(attempts) - 1, 0),
            waiting=state == RUNNING and (states == {PENDING} if sure or PENDING not in states else None),
            since=_time(sure.start_time if sure else around.start_time if around else None),
            failed_attempt=state == RUNNING and states == {FAILED},
        )

    def _driver(self, name: str, template: str) -> Standing:
        """Where a driver stands that waits for its pod or failed; one that runs or did well is nothing to speak of."""
        if not self._is_known(name):
            return Standing()
        pod = (self._attempts(name) or [name])[-1]
        candidates = self._candidates(pod, self._found.get(name))
        waiting = {entry.state for entry in candidates} == {PENDING}
        state = PENDING if waiting else FAILED if self._state(name) == FAILED else NOT_STARTED
        if not state:
            return Standing()
        since = _time(candidates[0].start_time) if waiting else None
        return Standing(
            state, pod_name(self.workflow, template, pod), self._id(pod), waiting=waiting, since=since, driver=True
        )

    def _id(self, name: str) -> str:
        return node_id(self.workflow, name)

    def _is_known(self, name: str) -> bool:
        return self._id(name) in self._known

    def _attempts(self, name: str) -> list[str]:
        """Names of the attempts of a node that is tried again; none where it is not."""
        return [attempt for number in range(MOST_ATTEMPTS) if self._is_known(attempt := f"{name}({number})")]

    def _entry(self, name: str, own: Iterable[str]) -> Any | None:
        """The entry of a node, told by children that no other node of that last name can have."""
        ids = {self._id(child) for child in own}
        for entry, children in zip(self._entries, self._children, strict=True):
            if entry.display_name == _last(name) and children & ids:
                return entry
        return None

    def _state(self, name: str) -> str:
        """State of a node; empty where it has not begun, or the entries do not tell."""
        found = self._found.get(name)
        states = {entry.state for entry in ([found] if found else self._candidates(name, None))}
        return (states.pop() or NOT_STARTED) if len(states) == 1 and (found or self._is_known(name)) else NOT_STARTED

    def _candidates(self, name: str, around: Any | None) -> list[Any]:
        """Entries that may be that of a node without children of its own.

        Args:
            name: of the node.
            around: entry of the node that it is part of; both begin at once.
        """
        found = [entry for entry in self._leaves if entry.display_name == _last(name)]
        timely = [entry for entry in found if around is not None and entry.start_time == around.start_time]
        return timely or found


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _time(value: Any) -> datetime | None:
    """A time of an answer; None for what has not happened, which is 0 or before in Kubeflow's answers."""
    if not isinstance(value, datetime) or value.timestamp() <= 0:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
