"""The entries that Kubeflow gives of Argo's nodes, made from a specification by Argo's own rules.

A twin of what `pipelines.submission.argo_nodes` reads, and made in the opposite direction: from the tree of nodes to
the entries. `test_nodes.py` holds it against the recordings of a real Kubeflow.

Rules (Argo 4.0, seen in the recordings):

- A node's id is the workflow's name, a dash and the 32-bit FNV-1a of the node's full name; the workflow's own node has
  the workflow's name for its id.
- With default retries each node is a wrapper whose child is its attempt `name(0)`, the workflow's own included.
- A task is two nodes: its driver, and the task, which hangs on the driver's last attempt.
- A container task's node holds `executor`; a nested pipeline's node holds its tasks.
- The first tasks of a pipeline hang on its node. A later task's driver hangs on the outbound nodes of each task that it
  waits for: the last attempt of one that is tried again, else the outbound nodes of what is inside it.
- What is never reached after a failure is omitted: its ids are among the children, its nodes are not told, but the
  last ones in line, which have a name and no state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

PRIME, OFFSET = 16777619, 2166136261
NEVER = "0001-01-01T00:00:00Z"
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED")
CACHED = "CACHED"


def identity(workflow: str, name: str) -> str:
    value = OFFSET
    for byte in name.encode("utf-8"):
        value = (value ^ byte) * PRIME % 2**32
    return workflow if name == workflow else f"{workflow}-{value}"


@dataclass
class Node:
    """One node of Argo."""

    name: str
    state: str
    children: list[str] = field(default_factory=list)
    start: str = NEVER
    end: str = NEVER

    @property
    def last(self) -> str:
        return self.name.rpartition(".")[2]


@dataclass
class Tree:
    """The nodes of a run.

    Args:
        specification: the pipeline.
        workflow: name of the Argo workflow.
        states: how far each task with an executor is, by path joined with dots: one state for each attempt of its pod,
            or CACHED; what is missing has not begun.
        wrappers: whether default retries are put around every template.
        start: time at which each node begins.
    """

    specification: Mapping[str, Any]
    workflow: str
    states: Mapping[str, list[str] | str]
    wrappers: bool = True
    start: str = "2026-11-27T21:00:00Z"
    nodes: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        root = self.specification["root"]["dag"]["tasks"]
        state = self._state_of(root, "")
        last = self._add(self.workflow, state)
        driver = self._add(f"{last}.root-driver", "SUCCEEDED")
        self.nodes[last].children.append(f"{last}.root-driver")
        inside = self._add(f"{last}.root", state)
        self.nodes[driver].children.append(f"{last}.root")
        self._tasks(root, inside, "")

    def _add(self, name: str, state: str) -> str:
        """A node, with its wrapper where there are any; gives the name of the one that holds what is inside."""
        self.nodes[name] = Node(name, state, start=self.start)
        if not self.wrappers:
            return name
        self.nodes[name].children.append(f"{name}(0)")
        self.nodes[f"{name}(0)"] = Node(f"{name}(0)", state, start=self.start)
        return f"{name}(0)"

    def _state_of(self, tasks: Mapping[str, Any], path: str) -> str:
        """State of a pipeline, by those of the tasks in it."""
        found = [self._task_state(task, f"{path}{name}") for name, task in tasks.items()]
        if "FAILED" in found:
            return "FAILED"
        return "SUCCEEDED" if all(state == "SUCCEEDED" for state in found) else "RUNNING"

    def _begun(self, task: Mapping[str, Any], path: str) -> bool:
        inner = self._inner(task)
        if inner is None:
            return path in self.states
        return any(self._begun(nested, f"{path}.{name}") for name, nested in inner.items())

    def _task_state(self, task: Mapping[str, Any], path: str) -> str:
        inner = self._inner(task)
        if not self._begun(task, path):
            return ""
        if inner is not None:
            return self._state_of(inner, f"{path}.")
        attempts = self.states[path]
        if attempts == CACHED:
            return "SUCCEEDED"
        latest = attempts if isinstance(attempts, str) else attempts[-1]
        # A failed attempt is not the end where another one is due, which `+` says.
        return {"PENDING": "RUNNING", "FAILED+": "RUNNING"}.get(latest, latest)

    def _inner(self, task: Mapping[str, Any]) -> Mapping[str, Any] | None:
        dag = self.specification["components"][task["componentRef"]["name"]].get("dag")
        return dag["tasks"] if dag else None

    def _tasks(self, tasks: Mapping[str, Any], parent: str, path: str) -> None:
        order = TopologicalSorter({name: task.get("dependentTasks", ()) for name, task in tasks.items()})
        for name in order.static_order():
            task = tasks[name]
            if not self._begun(task, f"{path}{name}"):
                continue
            state = self._task_state(task, f"{path}{name}")
            driver = self._add(f"{parent}.{name}-driver", "SUCCEEDED")
            waited_for = task.get("dependentTasks") or ()
            for holder in {node for dependency in waited_for for node in self._outbound(f"{parent}.{dependency}")} or {
                parent
            }:
                self.nodes[holder].children.append(f"{parent}.{name}-driver")
            inside = self._add(f"{parent}.{name}", state)
            self.nodes[driver].children.append(f"{parent}.{name}")
            inner = self._inner(task)
            if inner is not None:
                self._tasks(inner, inside, f"{path}{name}.")
            else:
                self._executor(inside, task, self.states[f"{path}{name}"], state)

    def _executor(self, inside: str, task: Mapping[str, Any], states: list[str] | str, state: str) -> None:
        name = f"{inside}.executor"
        self.nodes[inside].children.append(name)
        if states == CACHED:
            self.nodes[name] = Node(name, "SKIPPED", start=self.start)
            return
        attempts = [states] if isinstance(states, str) else states
        if self.wrappers or task.get("retryPolicy") is not None:
            self.nodes[name] = Node(name, state, start=self.start)
            for number, attempt in enumerate(attempts):
                self.nodes[name].children.append(f"{name}({number})")
                self.nodes[f"{name}({number})"] = Node(f"{name}({number})", attempt.rstrip("+"), start=self.start)
        else:
            self.nodes[name] = Node(name, attempts[-1], start=self.start)

    def _outbound(self, name: str) -> list[str]:
        """The nodes that what comes after this one hangs on."""
        node = self.nodes[name]
        attempts = [child for child in node.children if child.startswith(f"{name}(")]
        if attempts:
            return attempts[-1:]
        inside = [known for known in self.nodes if known.startswith(f"{name}.") and "." not in known[len(name) + 1 :]]
        tasks = [known for known in inside if not known.endswith("-driver")]
        if not tasks:
            return [name]
        waited_for = {dependency for known in tasks for dependency in self._dependencies(known)}
        return [node for known in tasks if known.rpartition(".")[2] not in waited_for for node in self._outbound(known)]

    def _dependencies(self, name: str) -> list[str]:
        """What a task of a nested pipeline waits for, in that pipeline."""
        tasks: Mapping[str, Any] = self.specification["root"]["dag"]["tasks"]
        task: Mapping[str, Any] = {}
        for part in name.split(".")[2:]:
            bare = part.partition("(")[0]
            if bare not in tasks:
                return []
            task = tasks[bare]
            tasks = self._inner(task) or {}
        return list(task.get("dependentTasks", ()))

    def entries(self) -> list[dict[str, Any]]:
        """The nodes as `task_details` of Kubeflow's answer has them: no ids of their own, no reasons."""
        return [
            {
                "display_name": node.last,
                "start_time": node.start,
                "end_time": node.start if node.state in ENDED else node.end,
                "state": node.state,
                **(
                    {"child_tasks": [{"pod_name": identity(self.workflow, child)} for child in node.children]}
                    if node.children
                    else {}
                ),
            }
            for node in sorted(self.nodes.values(), key=lambda node: identity(self.workflow, node.name + "salt"))
        ]
