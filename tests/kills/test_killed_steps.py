"""Every step is safe to repeat: killed at three moments and run again, it leaves what an undisturbed one leaves.

A killed attempt's files are gone with its pod; MLflow, the registry, the published models and the state of trainings
are as it left them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from metseg.phantom import generate_cohort
from pipelines.compiling import COMPILED
from tests.kills.end_state import differences, end_state, killed_runs
from tests.kills.launcher import NEXT_RUN_OF_KUBEFLOW, RUN_OF_KUBEFLOW, Attempt, Pipeline, Task, leave_out
from tests.kills.moments import CHAMPION, MOMENTS, Reached, Seen

pytestmark = pytest.mark.kills

NETWORK = "attention_unet"
FORM = {
    "data_image_size": 64,
    "train_architectures": NETWORK,
    "train_epochs": 3,
    "train_steps_per_epoch": 6,
    "train_batch_size": 4,
    "train_options": "filters=4 depth=2 learning_rate=0.02",
    "gate_dice": 0.0,
    "gate_options": "lesion_f1=0",
    "gate_promotion": "automatic",
    "gpu_count": "0",
    "model_name": "killed",
    "run_name": "killed and repeated",
}
TRIES = 3
"""How often a moment is waited for: a step may end before it is killed."""
TRIALS = [(step, moment) for step, moments in MOMENTS.items() for moment in moments]


@dataclass
class Undisturbed:
    """A run in which every step succeeded at once.

    Attributes:
        workspace: where it kept everything; trials take place there too, for MLflow holds absolute paths.
        copies: folder of the workspace's copies by step, from before the step.
        tasks: by step, of the network that is trained.
        seconds: what each took.
        states: what was there afterwards.
    """

    workspace: Path
    copies: Path
    tasks: dict[str, Task] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)

    def environment(self, step: str, run: str = RUN_OF_KUBEFLOW) -> dict[str, str]:
        """That of a step in a run of Kubeflow; the champion's evaluation belongs to the next one."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_"))}
        return kept | {
            "METSEG_WORKSPACE": str(self.workspace),
            "METSEG_KUBEFLOW_RUN": NEXT_RUN_OF_KUBEFLOW if step == CHAMPION else run,
            # As in an image: a tree that is edited meanwhile is no difference between two attempts.
            "METSEG_GIT_COMMIT": "0" * 40,
            "METSEG_PROGRESS": "lines",
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, pipeline: Pipeline) -> None:
        """Run all tasks, whose run has no champion to compete against."""
        for task in pipeline.tasks():
            self._complete(task, self.environment(task.step), watched=self._is_watched(task))

    def run_against_the_champion(self, pipeline: Pipeline) -> None:
        """Run, once more and with the same data, as many of the tasks as the champion's evaluation needs."""
        for task in pipeline.tasks():
            if task.step == CHAMPION:
                self._complete(task, self.environment(task.step), watched=True)
                break
            if task.step in ("check", "ingest"):
                self._complete(task, self.environment(task.step, NEXT_RUN_OF_KUBEFLOW), watched=False)
            else:
                leave_out(task)

    def _complete(self, task: Task, environment: dict[str, str], watched: bool) -> None:
        if watched:
            shutil.copytree(self.workspace, self.copies / task.step)
        began = time.monotonic()
        Attempt(task, environment).complete()
        if watched:
            self.tasks[task.step] = task
            self.seconds[task.step] = time.monotonic() - began
            self.states[task.step] = end_state(self.workspace, task.folder)

    def _is_watched(self, task: Task) -> bool:
        """Of the tasks of train and evaluate, those of the network that the run was asked for."""
        other = task.step in ("train", "evaluate") and not task.name.endswith(NETWORK.replace("_", "-"))
        return task.step in MOMENTS and task.step != CHAMPION and not other

    def go_back(self, step: str) -> None:
        """Bring the workspace to where it was before a step."""
        shutil.rmtree(self.workspace)
        shutil.copytree(self.copies / step, self.workspace)

    def kill(self, step: str, reached: Reached) -> float | None:
        """Start a step and kill it as soon as `reached`; after how many seconds, None where it ended before."""
        for _ in range(TRIES):
            self.go_back(step)
            began = time.monotonic()
            attempt = Attempt(self.tasks[step], self.environment(step))
            if attempt.kill_when(lambda now: reached(Seen(now, self.workspace))):
                return time.monotonic() - began
        return None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Iterator[Undisturbed]:
    folder = tmp_path_factory.mktemp("kills")
    generate_cohort(folder / "heads", patients=5)
    (folder / "workspace").mkdir()
    run = Undisturbed(folder / "workspace", folder / "copies")
    form = {"data_reference": str(folder / "heads"), **FORM}
    run.run(Pipeline(COMPILED, form, run.workspace / "tasks"))
    run.run_against_the_champion(Pipeline(COMPILED, form, run.workspace / "tasks of the next run"))
    yield run
    shutil.rmtree(folder)


def test_there_are_three_moments_of_each_of_the_eight_steps_and_of_the_champions_evaluation(undisturbed):
    assert list(MOMENTS) == list(undisturbed.tasks) and len(MOMENTS) == 9
    assert {len(moments) for moments in MOMENTS.values()} == {3}


def test_the_undisturbed_run_ends_with_a_champion_that_is_served(undisturbed):
    state = undisturbed.states["promote"]
    assert state["outputs"]["promoted/promotion.json"]["served"]["version"] == 1
    assert state["mlflow"]["registry"]["aliases"] == [["killed", "champion", 1]]
    assert list(state["mlflow"]["runs"]) == ["pipeline", f"training of {NETWORK}"]
    assert killed_runs(undisturbed.workspace) == []


def test_the_next_run_scores_that_champion(undisturbed):
    state = undisturbed.states[CHAMPION]
    assert state["outputs"]["evaluation/evaluation.json"]["version"] == 1
    assert list(state["mlflow"]["runs"]) == ["pipeline", f"training of {NETWORK}", "pipeline, another"]


@pytest.mark.parametrize(("step", "moment"), TRIALS, ids=[f"{step}, {moment}" for step, moment in TRIALS])
def test_a_step_that_is_killed_and_repeated_leaves_what_an_undisturbed_one_leaves(undisturbed, step, moment):
    after = undisturbed.kill(step, MOMENTS[step][moment])
    assert after is not None, f"{step} ended {TRIES} times before it was seen that {moment}"
    print(f"{step} killed after {after:.1f} s of {undisturbed.seconds[step]:.1f} s: {moment}")
    task = undisturbed.tasks[step]
    Attempt(task, undisturbed.environment(step)).complete()
    found = end_state(undisturbed.workspace, task.folder)
    assert list(differences(undisturbed.states[step], found)) == []
    # A training alone has a run of its own: the killed attempt's is closed, and it is the only one.
    left = killed_runs(undisturbed.workspace) if step != "check" else []
    assert left in ([], [NETWORK] if step == "train" else []), left
