"""A run's steps among Kubeflow's entries of Argo's nodes, on recordings and on what Argo's rules make of a pipeline."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pipelines.compiling import COMPILED
from pipelines.submission.argo_nodes import Nodes, StepStatus, fnv1a
from pipelines.submission.pipeline_package import Specification, Step, documents
from tests.pipelines.submission import recorded
from tests.pipelines.submission.argo import CACHED, Tree

TRAININGS = ("train", "train-2", "train-3")
BEFORE = {"check": "SUCCEEDED", "ingest": "SUCCEEDED", "validate": "SUCCEEDED"}
ALL = (
    "check", "ingest", "validate", "preprocess", *TRAININGS, "evaluate", "evaluate-2", "evaluate-3",
    "evaluate-champion", "register", "promote",
)  # fmt: skip
UNTIL_EVALUATE = {
    **dict.fromkeys(ALL[:-2], "SUCCEEDED"), "check": CACHED, "evaluate": "RUNNING", "evaluate-2": "RUNNING",
}  # fmt: skip
STATES: dict[str, dict[str, Any]] = {
    "run-running-ingest": {"check": "SUCCEEDED", "ingest": "RUNNING"},
    "run-image-missing": {"check": "PENDING"},
    "run-pods-pending-unschedulable": {**BEFORE, "preprocess": "PENDING", "evaluate-champion": "PENDING"},
    "run-pod-invalid-with-mlflow-plugin": {"check": CACHED, "ingest": ["FAILED", "FAILED+"]},
    "run-succeeded-compressed": UNTIL_EVALUATE,
    "run-succeeded-no-wrappers": {**dict.fromkeys(ALL, "SUCCEEDED"), "check": CACHED},
    "run-succeeded-nested": dict.fromkeys(
        ("make", "candidate.use", "candidate.use-2", "candidate-2.use", "candidate-2.use-2", "judge"), "SUCCEEDED"
    ),
}
"""How far the tasks of each recorded run were, by the pictures and notes made beside it."""


def workflow_of(answer: dict[str, Any]) -> str:
    """The shortest name of an entry that begins like the pipeline: the workflow's own node."""
    names = [task.get("display_name", "") for task in answer["run_details"]["task_details"]]
    return min((name for name in names if name.startswith(("metseg-training-", "nested-"))), key=len)


def told(task: dict[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """What an entry tells of a node: name, state, children."""
    children = sorted({child["pod_name"] for child in task.get("child_tasks", ())})
    return task["display_name"], task.get("state", ""), tuple(children)


@pytest.mark.parametrize("name", sorted(STATES))
def test_entries_made_by_argos_rules_are_those_that_were_recorded(name):
    answer = recorded.answer(name)
    tree = Tree(
        recorded.specification(answer).pipeline,
        workflow_of(answer),
        STATES[name],
        wrappers=name != "run-succeeded-no-wrappers",
    )
    real = [task for task in answer["run_details"]["task_details"] if "display_name" in task]
    assert Counter(map(told, tree.entries())) == Counter(map(told, real))


def standings(answer: dict[str, Any]) -> dict[str, StepStatus]:
    """Each step's status by its title."""
    steps = recorded.specification(answer).steps()
    found = Nodes(recorded.run(answer).run_details.task_details, steps).statuses
    return {step.title: status for step, status in found.items()}


def test_names_are_hashed_as_published():
    # draft-eastlake-fnv, appendix C, and the node id that the pod of a recorded run bears.
    assert (fnv1a(""), fnv1a("a"), fnv1a("foobar")) == (0x811C9DC5, 0xE40C292C, 0xBF9CF968)
    assert fnv1a("metseg-training-92stb(0).root(0).preprocess(0).executor(0)") == 1939280723


RETRY, PLAIN = "metadata-0-3-retry-system-container-impl", "metadata-0-3-system-container-impl"


@pytest.mark.parametrize(
    ("name", "title", "pod"),
    [
        # The names that `kubectl get events` gave of these pods.
        ("run-pods-pending-unschedulable", "preprocess", f"metseg-training-92stb-{RETRY}-1939280723"),
        ("run-pods-pending-unschedulable", "evaluate champion", f"metseg-training-92stb-{RETRY}-2933240250"),
        ("run-image-missing", "check parameters", f"metseg-training-gz58k-{PLAIN}-2306695202"),
        ("run-pod-invalid-with-mlflow-plugin", "ingest", f"metseg-training-rckzz-{RETRY}-2042371262"),
    ],
)
def test_pod_of_a_step_is_the_one_that_kubernetes_had(name, title, pod):
    assert standings(recorded.answer(name))[title].pod == pod
    objects = {event["involvedObject"]["name"] for event in recorded.answer("events-warnings")["items"]}
    messages = " ".join(event["message"] for event in recorded.answer("events-warnings")["items"])
    assert pod in objects or pod in messages


def states(name: str) -> dict[str, str]:
    """State of each step that began."""
    return {title: status.state for title, status in standings(recorded.answer(name)).items() if status.state}


def test_states_are_those_of_the_steps():
    assert states("run-running-ingest") == {"check parameters": "SUCCEEDED", "ingest": "RUNNING"}
    assert states("run-ingest-failed") == {"check parameters": "SUCCEEDED", "ingest": "FAILED"}
    done = states("run-succeeded-no-wrappers")
    assert len(done) == 13 and set(done.values()) == {"SUCCEEDED"}
    compressed = states("run-succeeded-compressed")
    assert [title for title, state in compressed.items() if state == "RUNNING"] == [
        "evaluate nested_unet",
        "evaluate attention_unet",
    ]
    assert Counter(compressed.values()) == {"SUCCEEDED": 9, "RUNNING": 2}


def test_steps_in_nested_pipelines_are_named_after_both_and_the_boxes_are_none():
    assert list(states("run-succeeded-nested")) == [
        "ingest",
        "nested_unet › train",
        "nested_unet › evaluate",
        "attention_unet › train",
        "attention_unet › evaluate",
        "register",
    ]


def test_waiting_failed_and_cached_steps_are_told_apart():
    waiting = standings(recorded.answer("run-pods-pending-unschedulable"))
    assert [title for title, status in waiting.items() if status.waiting] == ["evaluate champion", "preprocess"]
    invalid = standings(recorded.answer("run-pod-invalid-with-mlflow-plugin"))
    assert invalid["ingest"].failed_attempt and invalid["ingest"].attempt == 1
    assert invalid["check parameters"].cached and not waiting["check parameters"].cached
    assert not any(status.failed_attempt for status in waiting.values())


def compiled() -> Specification:
    return Specification.from_documents(documents(COMPILED.read_text(encoding="utf-8")))


def steps_of(specification: Specification) -> list[Step]:
    return specification.steps()


@pytest.mark.parametrize("wrappers", [True, False])
def test_every_step_of_todays_pipeline_is_found_in_every_state(wrappers):
    specification = compiled()
    steps = steps_of(specification)
    executors = [task for task in specification.pipeline["components"].values() if "executorLabel" in task]
    assert len(steps) >= len({task["executorLabel"] for task in executors}) and len(set(steps)) == len(steps)
    for at, step in enumerate(steps):
        for state in ("PENDING", "RUNNING", "SUCCEEDED", "FAILED", CACHED):
            so_far = {".".join(known.path): "SUCCEEDED" for known in steps[:at]}
            tree = Tree(
                specification.pipeline, "metseg-training-abcde", {**so_far, ".".join(step.path): state}, wrappers
            )
            found = Nodes(recorded.entries(tree.entries()), steps).statuses
            expected = {"PENDING": "RUNNING", CACHED: "SUCCEEDED"}.get(state, state)
            assert [found[known].state for known in steps[:at]] == ["SUCCEEDED"] * at
            assert (found[step].state, bool(found[step].waiting)) == (expected, state == "PENDING"), (step, state)
            assert not any(found[known].state for known in steps[at + 1 :])


@pytest.mark.parametrize("wrappers", [True, False])
def test_pod_that_waits_beside_one_that_runs_is_left_open_where_the_entries_do_not_tell(wrappers):
    specification = recorded.specification()
    tree = Tree(
        specification.pipeline,
        "w",
        {**BEFORE, "preprocess": "SUCCEEDED", "train": "PENDING", "train-2": "RUNNING"},
        wrappers,
    )
    entries = tree.entries()
    steps = {step.path[-1]: step for step in specification.steps()}
    found = Nodes(recorded.entries(entries), steps.values()).statuses
    assert found[steps["train"]].waiting is None and found[steps["train-2"]].waiting is None
    # They began at other times: then it is known.
    later = {tree.nodes[name].name for name in tree.nodes if ".train-2" in name}
    for node in tree.nodes.values():
        node.start = "2026-11-27T21:05:00Z" if node.name in later else node.start
    found = Nodes(recorded.entries(tree.entries()), steps.values()).statuses
    assert found[steps["train"]].waiting is True and found[steps["train-2"]].waiting is False


def stuck_at_driver(specification: Specification, last: str, state: str) -> Tree:
    """A run whose last node so far is this driver."""
    tree = Tree(specification.pipeline, "w", {"check": "RUNNING"})
    for name in list(tree.nodes):
        if name.startswith(f"w(0).{last}") or f".{last}" in name:
            if f"{last}-driver" in name:
                tree.nodes[name].state = state if "-driver(" in name or state == "FAILED" else "RUNNING"
                tree.nodes[name].children = [child for child in tree.nodes[name].children if "-driver(" in child]
            else:
                del tree.nodes[name]
    return tree


@pytest.mark.parametrize("state", ["FAILED", "PENDING"])
def test_driver_that_fails_or_waits_is_named_for_its_step(state):
    specification = recorded.specification()
    steps = specification.steps()
    tree = stuck_at_driver(specification, "check", state)
    found = Nodes(recorded.entries(tree.entries()), steps).statuses[steps[0]]
    assert (found.state, found.driver, found.waiting) == (state, True, state == "PENDING")
    assert found.pod == f"w-system-container-driver-{fnv1a('w(0).root(0).check-driver(0)')}"


@pytest.mark.parametrize("state", ["FAILED", "PENDING"])
def test_driver_of_the_whole_pipeline_is_told_where_it_fails_or_waits(state):
    specification = recorded.specification()
    tree = stuck_at_driver(specification, "root", state)
    (opening,) = Nodes(recorded.entries(tree.entries()), specification.steps()).openings()
    assert (opening.state, opening.pod) == (state, f"w-system-dag-driver-{fnv1a('w(0).root-driver(0)')}")
    assert not Nodes(
        recorded.entries(Tree(specification.pipeline, "w", {"check": "RUNNING"}).entries()), specification.steps()
    ).openings()


def test_run_that_has_not_begun_has_no_steps_under_way():
    steps = recorded.specification().steps()
    assert not any(status.state for status in Nodes([], steps).statuses.values())
