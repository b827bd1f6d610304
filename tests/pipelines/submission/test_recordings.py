"""`metseg submit --follow` on every recorded answer of a real Kubeflow: names, count, pod, words and exit code.

What is expected was written by hand, from the recordings and from the notes, events and pictures made beside them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial

import pytest

from metseg.progress import LOG_TAG
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from pipelines.submission import run_monitor, submit_command
from tests.pipelines.submission import recorded

IMPLEMENTATION = "metadata-0-3-system-container-impl"
TRIED_AGAIN = "metadata-0-3-retry-system-container-impl"
FAILED, GOES_ON = 1, 130
CACHED = "succeeded (its result is taken from an earlier run)"
UNTIL_VALIDATE = {"check parameters": "succeeded", "ingest": "succeeded", "validate": "succeeded"}
UNTIL_EVALUATE = {
    **UNTIL_VALIDATE,
    "check parameters": CACHED,
    "preprocess": "succeeded",
    "train nested_unet": "succeeded",
    "train attention_unet": "succeeded",
    "train unet": "succeeded",
    "evaluate champion": "succeeded",
    "evaluate unet": "succeeded",
}
PASSED = {"verdict": "promote", "winner": "unet", "registered_version": "7"}


@dataclass(frozen=True)
class Expected:
    """What the command line says of a recorded run.

    Attributes:
        steps: each step that began, by the name that the UI gives it, with what is told of it.
        tasks: the last count.
        code: exit code; that of an interrupted command where the run goes on.
        words: what else is said, the pod among it.
        logs: of pods.
        tags: of the run in MLflow.
    """

    steps: dict[str, str]
    tasks: str
    code: int
    words: tuple[str, ...] = ()
    logs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def waits(title: str, pod: str) -> str:
    command = f"kubectl -n kubeflow describe pod {pod}"
    return f"{title} has waited … for its pod {pod}: reason not known; {command} shows it"


INGEST_FAILED = f"metseg-training-96pmw-{TRIED_AGAIN}-509636080"
INVALID = f"metseg-training-rckzz-{TRIED_AGAIN}-2042371262"
RUNS = {
    "run-running-ingest": Expected(
        {"check parameters": "succeeded", "ingest": "running"},
        "1/13 ingest",
        GOES_ON,
        ("  ingest: 12 patients\n",),
        {f"metseg-training-92stb-{TRIED_AGAIN}-3985038057": f"{LOG_TAG}12 patients\n"},
    ),
    "run-pods-pending-unschedulable": Expected(
        {**UNTIL_VALIDATE, "preprocess": "waits for its pod", "evaluate champion": "waits for its pod"},
        "3/13",
        GOES_ON,
        (
            waits("preprocess", f"metseg-training-92stb-{TRIED_AGAIN}-1939280723"),
            waits("evaluate champion", f"metseg-training-92stb-{TRIED_AGAIN}-2933240250"),
        ),
    ),
    "run-image-missing": Expected(
        {"check parameters": "waits for its pod"},
        "0/13",
        GOES_ON,
        (waits("check parameters", f"metseg-training-gz58k-{IMPLEMENTATION}-2306695202"),),
    ),
    "run-pod-invalid-with-mlflow-plugin": Expected(
        {"check parameters": CACHED, "ingest": "running"},
        "1/13 ingest",
        GOES_ON,
        (
            f"ingest: attempt 2 failed (pod {INVALID}); the step may be retried: it has no log; kubectl -n kubeflow "
            "get workflow metseg-training-rckzz -o jsonpath='{.status.nodes.metseg-training-rckzz-2042371262.message}'",
        ),
    ),
    "run-ingest-failed": Expected(
        {"check parameters": "succeeded", "ingest": "failed"},
        "2/13",
        FAILED,
        (
            "metseg: ingest: s3://scans/p12: the bucket cannot be listed (Could not connect to the endpoint URL: ",
            f"See to the name, AWS_ENDPOINT_URL and the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            f"AWS_PROFILE). (pod {INGEST_FAILED})",
        ),
        {INGEST_FAILED: (recorded.FOLDER / "log-ingest-failed.txt").read_text(encoding="utf-8")},
    ),
    "run-succeeded-compressed": Expected(
        UNTIL_EVALUATE,
        "13/13",
        0,
        (
            "record of the tasks ends at 9 of 13; the run itself succeeded",
            "the gate passed unet: registered as version 7",
        ),
        tags=PASSED,
    ),
    "run-succeeded-no-wrappers": Expected(
        {
            **UNTIL_EVALUATE,
            "evaluate nested_unet": "succeeded",
            "evaluate attention_unet": "succeeded",
            "register": "succeeded",
            "promote": "succeeded",
        },
        "13/13",
        3,
        ("the gate's verdict is rejected: nothing was registered",),
        tags={"verdict": "rejected", "winner": "unet"},
    ),
    "run-succeeded-nested": Expected(
        {
            "ingest": "succeeded",
            "nested_unet › train": "succeeded",
            "nested_unet › evaluate": "succeeded",
            "attention_unet › train": "succeeded",
            "attention_unet › evaluate": "succeeded",
            "register": "succeeded",
        },
        "6/6",
        0,
        tags=PASSED,
    ),
}


def test_every_recording_is_in_the_table():
    assert sorted(RUNS) == recorded.RUNS


@pytest.mark.parametrize("name", RUNS)
def test_recorded_run_is_told_with_its_names_count_pod_words_and_exit_code(submit, kubeflow, leave, monkeypatch, name):
    looks = []

    def interrupted(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(submit_command, "Follower", partial(run_monitor.Follower, sleep=interrupted))
    expected, run = RUNS[name], recorded.play(kubeflow, name)
    left, kubeflow.logs = leave(run, **expected.tags), dict(expected.logs)
    code, said = submit("--follow", run)

    assert code == expected.code
    told = re.findall(r"^([^\s:][^:\n]*): (succeeded.*|failed|running|waits for its pod)$", said, re.MULTILINE)
    assert dict(told) == expected.steps and len(told) == len(expected.steps)
    assert re.findall(r"^  tasks (.*)$", said, re.MULTILINE)[-1] == expected.tasks
    said = re.sub(r"has waited \d+ (s|min|h) ", "has waited … ", said)
    for words in expected.words:
        assert words in said
    status = mlflow_runs.client(Settings.from_environment()).get_run(left).info.status
    assert status == ("FAILED" if code == FAILED else "RUNNING")
    assert ("no longer followed. The run continues" in said) == (code == GOES_ON)
