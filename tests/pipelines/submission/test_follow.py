"""`metseg submit --follow` on answers that a real Kubeflow gave, and what Kubernetes adds to them."""

from __future__ import annotations

import json

import pytest

from metseg.progress import LOG_TAG
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from pipelines.submission.pod_events import waiting_reason
from pipelines.submission.run_monitor import ending
from tests.pipelines.submission import DATA, recorded
from tests.pipelines.submission.kubeflow_server import Kubeflow

PLAIN, RETRY = (
    f"metseg-training-92stb-metadata-0-3-{tried_again}system-container-impl" for tried_again in ("", "retry-")
)
LOOKS = 3


@pytest.fixture
def playing(kubeflow: Kubeflow, monkeypatch):
    """Have the server give a recorded answer, and the pipeline of 92ef0e7 as the version that it names.

    A recorded run that goes on goes on for good: after some looks it is ended.
    """
    answer, looks = kubeflow._run_service_get_run, []

    def counted(*arguments):
        looks.append(arguments)
        if len(looks) > LOOKS and kubeflow.recorded["state"] == "RUNNING":
            kubeflow.recorded = {**kubeflow.recorded, "state": "CANCELED"}
        return answer(*arguments)

    monkeypatch.setattr(kubeflow, "_run_service_get_run", counted)

    def play(name: str) -> str:
        looks.clear()
        return recorded.play(kubeflow, name)

    return play


@pytest.mark.parametrize(
    ("name", "count"),
    [("run-succeeded-compressed", 13), ("run-succeeded-no-wrappers", 13), ("run-succeeded-nested", 6)],
)
def test_run_that_succeeded_is_believed_and_counted_whole(submit, playing, leave, name, count):
    run = playing(name)
    leave(run, verdict="promote", winner="unet", registered_version="7")
    code, said = submit("--follow", run)
    assert code == 0 and f"tasks {count}/{count}" in said and "registered as version 7" in said
    assert ("record of the tasks ends at 9 of 13" in said) == (name == "run-succeeded-compressed")
    assert "executor" not in said and "(0)" not in said and "driver" not in said


def test_nested_steps_are_shown_with_the_pipeline_that_they_are_in(submit, playing, leave):
    run = playing("run-succeeded-nested")
    leave(run, verdict="promote", winner="unet", registered_version="7")
    _, said = submit("--follow", run)
    for title in ("ingest", "nested_unet › train", "attention_unet › evaluate", "register"):
        assert f"{title}: succeeded" in said


def test_gate_that_registered_nothing_ends_with_3(submit, playing, leave):
    run = playing("run-succeeded-no-wrappers")
    leave(run, verdict="rejected", winner="unet")
    code, said = submit("--follow", run)
    assert code == 3 and "the gate's verdict is rejected" in said


def test_failed_step_ends_in_its_own_words_with_its_pod(submit, kubeflow, playing, leave):
    run, pod = playing("run-ingest-failed"), "metseg-training-96pmw-metadata-0-3-retry-system-container-impl-509636080"
    left = leave(run)
    kubeflow.logs[pod] = (recorded.FOLDER / "log-ingest-failed.txt").read_text(encoding="utf-8")
    code, said = submit("--follow", run)
    assert code == 1 and f"(pod {pod})" in said and "ingest: failed" in said
    assert "ingest: s3://scans/p12: the bucket cannot be listed (Could not connect to the endpoint URL" in said
    assert "See to the name, AWS_ENDPOINT_URL and the credentials" in said
    assert mlflow_runs.client(Settings.from_environment()).get_run(left).info.status == "FAILED"


def test_running_step_is_counted_and_named_and_what_is_over_is_not_read_again(submit, kubeflow, playing, leave):
    run = playing("run-running-ingest")
    leave(run)
    check, ingest = f"{PLAIN}-3086304825", f"{RETRY}-3985038057"
    kubeflow.logs = {check: LOG_TAG + "checked\n", ingest: LOG_TAG + "12 patients\n"}
    code, said = submit("--follow", run)
    assert "ingest: 12 patients" in said and "checked" not in said
    assert "check parameters: succeeded" in said and "ingest: running" in said and "tasks 1/13 ingest" in said
    assert code == 1 and "terminated by a user" in said


@pytest.mark.parametrize(
    ("name", "title", "number"),
    [
        ("run-pods-pending-unschedulable", "preprocess", 1939280723),
        ("run-pods-pending-unschedulable", "evaluate champion", 2933240250),
        ("run-image-missing", "check parameters", 2306695202),
    ],
)
def test_waiting_pod_is_named_and_its_reason_is_kubernetes_own(submit, playing, leave, kubernetes, name, title, number):
    run = playing(name)
    leave(run)
    _, said = submit("--follow", run)
    (line,) = (line for line in said.splitlines() if line.startswith(f"{title} has waited"))
    pod = line.partition("its pod ")[2].partition(":")[0]
    assert pod.endswith(f"-{number}") and f"kubectl -n kubeflow describe pod {pod}" in line

    kubernetes[f"/api/v1/namespaces/kubeflow/pods/{pod}"] = {"status": {"phase": "Pending"}}
    kubernetes["/api/v1/namespaces/kubeflow/events"] = recorded.answer("events-warnings")
    playing(name)
    _, said = submit("--follow", run)
    (line,) = (line for line in said.splitlines() if line.startswith(f"{title} has waited"))
    why = {"run-image-missing": "Failed: ", "run-pods-pending-unschedulable": "Insufficient cpu"}[name]
    assert why in line and "kubectl" not in line


def test_pod_that_kubernetes_refuses_is_named_with_how_to_ask_and_then_with_the_reason(
    submit, playing, leave, kubernetes
):
    run, node = playing("run-pod-invalid-with-mlflow-plugin"), "metseg-training-rckzz-2042371262"
    leave(run)
    _, said = submit("--follow", run)
    pod = "metseg-training-rckzz-metadata-0-3-retry-system-container-impl-2042371262"
    assert f"ingest: attempt 2 failed (pod {pod}); the step may be retried: it has no log" in said
    command = f"kubectl -n kubeflow get workflow metseg-training-rckzz -o jsonpath='{{.status.nodes.{node}.message}}'"
    assert command in said

    told = [e["message"] for e in recorded.answer("events-warnings")["items"] if "executor(1): Pod" in e["message"]]
    message = told[0].partition("executor(1): ")[2]
    path = "/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows/metseg-training-rckzz"
    kubernetes[path] = {"status": {"nodes": {node: {"message": message}}}}
    playing("run-pod-invalid-with-mlflow-plugin")
    _, said = submit("--follow", run)
    assert "may not be specified when `value` is not empty" in said and "get workflow" not in said


def test_run_that_argo_says_was_stopped_was_stopped_by_a_person(submit, kubeflow, playing, leave, kubernetes):
    run = playing("run-pods-pending-unschedulable")
    left = leave(run)
    kubeflow.recorded["state"] = "FAILED"
    path = "/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows/metseg-training-92stb"
    messages = [e["message"] for e in recorded.answer("events-warnings")["items"]]
    (message,) = {m.partition(": ")[2] for m in messages if m.startswith("Failed node metseg-training-92stb: ")}
    kubernetes[path] = {"status": {"nodes": {"metseg-training-92stb": {"message": message}}}}
    code, said = submit("--follow", run)
    assert code == 1 and "the run was terminated by a user" in said
    assert mlflow_runs.client(Settings.from_environment()).get_run(left).info.status == "KILLED"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}}]},
            "ImagePullBackOff: Back-off",
        ),
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
                ]
            },
            "Unschedulable: 0/1 nodes",
        ),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, ""),
        ({"phase": "Pending"}, ""),
    ],
)
def test_reason_of_a_waiting_pod_is_read_from_its_own_record(status, expected):
    assert waiting_reason({"status": status}) == expected


def test_run_that_is_not_there_is_said_so(submit, kubeflow, leave):
    leave("x")
    code, said = submit("--follow", "nobody")
    assert code == 2 and "Run nobody not found" in said and "The run continues" not in said


def test_run_whose_pipeline_is_gone_is_followed_by_its_state(submit, kubeflow, playing, leave):
    run = playing("run-succeeded-no-wrappers")
    kubeflow.versions.clear()
    leave(run, verdict="promote", winner="unet", registered_version="7")
    code, said = submit("--follow", run)
    assert code == 0 and "only its end is reported" in said


@pytest.mark.parametrize(
    "address",
    [
        "{run}",
        " {run}\n",
        "{run}?tab=1",
        "http://kubeflow.example.org/#/runs/details/{run}",
        "http://kubeflow.example.org/#/runs/details/{run}/?pod=1",
        "http://kubeflow.example.org/apis/v2beta1/runs/{run}",
        " https://kubeflow.example.org/_/pipeline/?ns=imaging#/runs/details/{run}?ns=imaging ",
    ],
)
def test_run_that_another_started_is_followed_by_the_pipeline_of_its_version(submit, kubeflow, leave, address):
    submit(*DATA)
    (run,) = kubeflow.runs
    leave(run, verdict="promote", winner="unet", registered_version="2")
    code, said = submit("--follow", address.format(run=run))
    assert code == 0 and "registered as version 2" in said


def test_ending_of_a_log_is_its_own_last_line_and_the_launchers_word():
    log = (recorded.FOLDER / "log-ingest-failed.txt").read_text(encoding="utf-8")
    assert ending(log).startswith("::error") and ending(log).endswith("exit status 1")
    assert ending("") == ""
    assert json.loads(ending(log).partition("::error ")[2].rpartition(";")[0])["step"] == "ingest"


def test_what_the_launcher_and_argo_say_after_a_step_is_not_its_last_line():
    """As the log of a step that could not be imported ended on a real cluster."""
    log = """ModuleNotFoundError: No module named 'kubernetes'
E1128 00:52:19.567324      15 launcher_v2.go:449] Component failed to execute successfully: exit status 1
I1128 00:52:19.867008      15 launcher_v2.go:206] publish success.
F1128 00:52:19.876574      15 main.go:59] failed to execute component: exit status 1
time=2026-11-28T00:52:20.005Z level=INFO msg="sub-process exited" argo=true error="exit status 1"
Error: exit status 1
"""
    assert ending(log) == "ModuleNotFoundError: No module named 'kubernetes'; exit status 1"
