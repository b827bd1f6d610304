"""`metseg submit --wait`: the run followed to its verdict, and what is said where it does not get there."""

from __future__ import annotations

import json

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from metseg.progress import LOG_TAG, STEP_TAG, TAG
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from pipelines.submission import run_monitor
from tests.pipelines.submission import DATA, titles
from tests.pipelines.submission.argo import CACHED

COUNT = len(titles())
FIRST, SECOND = titles()[:2]
MESSAGE = "s3://scans/2026: the bucket cannot be listed. See to the name and the credentials."
NOT_BEGUN = {"state": "PENDING", "created_at": "2026-11-27T20:50:16Z", "run_details": {}}
ERROR_LOG = "\n".join(
    [
        "I1127 20:53:03.808319      14 main.go:67] Setting log level to: '1'",
        STEP_TAG + "ingest",
        "::error " + json.dumps({"step": "ingest", "message": MESSAGE, "code": 1}),
        "F1127 20:53:07.647539      14 main.go:59] failed to execute component: exit status 1",
        "",
    ]
)


@pytest.mark.parametrize("wrappers", [True, False])
def test_wait_follows_every_step_and_ends_with_the_verdict(submit, kubeflow, mlflow_says, wrappers):
    kubeflow.wrappers = wrappers
    mlflow_says(verdict="promote", winner="nested_unet", registered_version="4")
    kubeflow.plugins = {
        "mlflow": {"entries": {"run_url": {"value": "https://mlflow.example.org/#/run", "render_type": "URL"}}}
    }
    code, said = submit(*DATA, "--wait")
    assert code == 0
    assert "the gate passed nested_unet: registered as version 4" in said
    assert "MLflow https://mlflow.example.org/#/run" in said
    for title in titles():
        assert f"{title}: running" in said and f"{title}: succeeded" in said
    assert "driver" not in said and "executor" not in said and f"tasks {COUNT}/{COUNT}" in said


@pytest.mark.parametrize("behind_ui", [True, False])
def test_progress_and_words_of_the_steps_are_shown_once(submit, kubeflow, mlflow_says, behind_ui):
    kubeflow.behind_ui = behind_ui
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    progress = [{"label": "training", "done": done, "total": 40, "detail": "dice 0.71"} for done in (3, 40)]
    kubeflow.goes[SECOND] = ["PENDING", "RUNNING", "RUNNING", "RUNNING", "SUCCEEDED"]
    kubeflow.logs[SECOND] = "\n".join(
        ["I1127 20:53:03.8 14 main.go:67] noise", f"{LOG_TAG}12 patients", *(TAG + json.dumps(p) for p in progress), ""]
    )
    code, said = submit(*DATA, "--wait")
    assert code == 0 and said.count(f"{SECOND}: 12 patients") == 1 and "noise" not in said and "::" not in said
    assert f"{SECOND}: training 40/40 dice 0.71" in said
    assert f"{SECOND}: waits for its pod" in said


def test_step_whose_result_is_cached_counts_as_done(submit, kubeflow, mlflow_says):
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    kubeflow.goes[FIRST] = [CACHED]
    code, said = submit(*DATA, "--wait")
    assert code == 0 and f"{FIRST}: succeeded (its result is taken from an earlier run)" in said
    assert f"tasks {COUNT}/{COUNT}" in said


@pytest.mark.parametrize("outcome", ["rejected", "tie", "incomparable"])
def test_wait_ends_with_3_where_the_gate_registers_nothing(submit, mlflow_says, outcome):
    mlflow_says(verdict=outcome, winner="unet")
    code, said = submit(*DATA, "--wait")
    assert code == 3 and f"the gate's verdict is {outcome}" in said


def test_verdict_that_is_not_in_mlflow_is_not_known(submit, kubeflow, mlflow_says):
    mlflow_says()
    code, said = submit(*DATA, "--wait")
    (run,) = kubeflow.runs
    assert code == 4 and "the run succeeded, but its verdict could not be read (MLflow at " in said
    assert "has no verdict of this run" in said and f"metseg submit --follow {run} tries again" in said


@pytest.mark.parametrize("silent", ["client", "search"])
def test_mlflow_that_is_away_at_the_end_leaves_the_verdict_unknown(submit, kubeflow, leave, monkeypatch, silent):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def started(run: str) -> None:
        leave(run, verdict="promote", winner="unet", registered_version="1")
        if silent == "client":
            monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        else:
            monkeypatch.setattr(MlflowClient, "search_runs", refuse)

    def refuse(*_, **__):
        raise MlflowException("API request failed with error code 502\n<html>")

    kubeflow.started = started
    code, said = submit(*DATA, "--wait")
    (run,) = kubeflow.runs
    assert code == 4 and "the run succeeded, but its verdict could not be read (" in said
    assert ("127.0.0.1:9" in said or "error code 502)" in said) and "<html>" not in said
    assert f"metseg submit --follow {run} tries again" in said


def test_failed_run_ends_with_1_in_the_steps_own_words(submit, kubeflow, mlflow_says, host):
    mlflow_says()
    kubeflow.goes[SECOND], kubeflow.logs[SECOND] = ["RUNNING", "FAILED"], ERROR_LOG
    code, said = submit(*DATA, "--wait")
    assert code == 1 and f"{SECOND}: {MESSAGE}" in said and f"{host}/#/runs/details/" in said
    (run,) = kubeflow.runs.values()
    assert f"(pod {run['_pods'][SECOND]})" in said


def test_attempt_that_fails_is_spoken_of_and_the_next_one_is_followed(submit, kubeflow, mlflow_says):
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    kubeflow.goes[SECOND] = ["RUNNING", ["FAILED+"], ["FAILED+", "RUNNING"], ["FAILED+", "SUCCEEDED"]]
    kubeflow.logs[SECOND] = ERROR_LOG
    code, said = submit(*DATA, "--wait")
    assert (
        code == 0 and said.count(f"{SECOND}: attempt 1 failed") == 1 and f"the step may be retried: {MESSAGE}" in said
    )


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("Traceback (most recent call last):\nValueError: broken\n", "ValueError: broken"),
        (
            "loading\nE1127 20:53:07.6 14 launcher.go:449] Component failed to execute successfully: signal: killed\n",
            "loading; signal: killed",
        ),
        (None, "it has no log; kubectl -n kubeflow get workflow"),
    ],
)
def test_step_that_fails_without_a_word_is_told_by_how_its_log_ends(submit, kubeflow, mlflow_says, log, expected):
    mlflow_says()
    kubeflow.goes[FIRST] = ["FAILED"]
    if log is not None:
        kubeflow.logs[FIRST] = log
    code, said = submit(*DATA, "--wait")
    assert code == 1 and f"{FIRST}: {expected}" in said


def test_run_that_fails_ends_as_failed_in_mlflow(submit, kubeflow, leave):
    made = []

    def started(run: str) -> None:
        made.append(leave(run))
        tracking = mlflow_runs.client(Settings.from_environment())
        within = tracking.get_run(made[0]).info.experiment_id
        made.append(tracking.create_run(within, tags={"mlflow.parentRunId": made[0]}).info.run_id)
        made.append(leave("another-kubeflow-run"))

    kubeflow.started = started
    kubeflow.goes[SECOND] = ["FAILED"]
    code, _ = submit(*DATA, "--wait")
    tracking = mlflow_runs.client(Settings.from_environment())
    assert code == 1
    assert [tracking.get_run(run).info.status for run in made] == ["FAILED", "FAILED", "RUNNING"]


def test_wait_needs_mlflow_before_anything_is_started(submit, kubeflow, monkeypatch):
    for arguments, option, unanswered in (((*DATA, "--wait"), "--wait", 1), (("--follow", "r"), "--follow", 4)):
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        code, said = submit(*arguments)
        assert code == 2 and f"{option} ends with the verdict" in said and not kubeflow.log
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        code, said = submit(*arguments)
        assert code == unanswered and "MLflow at http://127.0.0.1:9 does not respond" in said and not kubeflow.log
        assert ("metseg submit --follow r tries again" in said) == (option == "--follow")


def test_kubeflow_that_is_away_for_a_while_is_asked_again(submit, kubeflow, mlflow_says):
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    leave = kubeflow.started

    def leave_and_go(run: str) -> None:
        leave(run)
        kubeflow.away = 5

    kubeflow.started = leave_and_go
    code, said = submit(*DATA, "--wait")
    assert code == 0 and said.count("Kubeflow does not respond") == 1


def test_kubeflow_that_stays_away_leaves_the_end_unknown(submit, kubeflow, mlflow_says, monkeypatch):
    monkeypatch.setattr(run_monitor, "OUTAGE_SECONDS", 0.05)
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    leave = kubeflow.started

    def leave_for_good(run: str) -> None:
        leave(run)
        kubeflow.away = 10**6

    kubeflow.started = leave_for_good
    code, said = submit(*DATA, "--wait")
    (run,) = kubeflow.runs
    assert code == 4 and "cannot do it now" in said and "The run continues" in said
    # Whoever asks again, and is not answered, is not told that it failed.
    code, said = submit("--follow", run)
    assert code == 4 and f"The state of the run is not known: metseg submit --follow {run} tries again" in said
    kubeflow.away = 0
    assert submit("--follow", run)[0] == 0


def test_run_that_is_deleted_while_it_is_followed_is_not_said_to_go_on(submit, kubeflow, mlflow_says):
    mlflow_says()
    kubeflow.goes[SECOND] = ["RUNNING", "RUNNING", "RUNNING", "SUCCEEDED"]
    answer = kubeflow._run_service_get_run

    def forget(request, path, body):
        found = answer(request, path, body)
        if kubeflow.looks[path["run_id"]] == 3:
            kubeflow.runs.clear()
        return found

    kubeflow._run_service_get_run = forget
    code, said = submit(*DATA, "--wait")
    assert code == 4 and "was deleted" in said and "goes on" not in said


def test_record_that_stands_still_does_not_hide_that_the_run_succeeded(submit, kubeflow, mlflow_says):
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    kubeflow.frozen = 5
    code, said = submit(*DATA, "--wait")
    assert code == 0 and "Kubeflow's record of the tasks ends at" in said and f"tasks {COUNT}/{COUNT}" in said


@pytest.mark.parametrize("how", ["state", "history"])
def test_run_that_a_person_ended_is_said_to_be_so_and_is_killed_in_mlflow(submit, kubeflow, leave, how):
    left = []
    kubeflow.started = lambda run: left.append(leave(run))
    kubeflow.goes[SECOND] = ["RUNNING", "RUNNING", "FAILED"] if how == "history" else ["RUNNING", "SUCCEEDED"]
    kubeflow.ends = "CANCELED"
    if how == "history":
        # The run itself ends as FAILED: Kubeflow forgets the rest once Argo has stopped it.
        kubeflow.extra = {"state_history": [{"update_time": "2026-11-27T21:00:00Z", "state": "CANCELING"}]}
    code, said = submit(*DATA, "--wait")
    assert code == 1 and "the run was terminated by a user" in said and "it has no log" not in said
    assert mlflow_runs.client(Settings.from_environment()).get_run(left[0]).info.status == "KILLED"


def test_run_that_nobody_begins_is_spoken_of(submit, kubeflow, mlflow_says, monkeypatch):
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    answer, looks = kubeflow._run_service_get_run, []

    def late(request, path, body):
        looks.append(path)
        return answer(request, path, body) if len(looks) > 3 else {**kubeflow.runs[path["run_id"]], **NOT_BEGUN}

    monkeypatch.setattr(kubeflow, "_run_service_get_run", late)
    code, said = submit(*DATA, "--wait")
    assert code == 0 and said.count("the run has not started") == 1 and "kubectl -n kubeflow get work" in said


def test_step_that_failed_after_the_record_ended_is_told_by_its_log(submit, kubeflow, mlflow_says):
    mlflow_says()
    kubeflow.frozen, kubeflow.goes[SECOND], kubeflow.logs[SECOND] = 3, ["RUNNING"] * 3 + ["FAILED"], ERROR_LOG
    code, said = submit(*DATA, "--wait")
    assert code == 1 and f"{SECOND}: {MESSAGE}" in said


def test_waiting_pod_is_spoken_of_after_two_minutes_with_the_command_that_says_why(submit, kubeflow, mlflow_says):
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    kubeflow.goes[SECOND] = ["PENDING"] * 5 + ["RUNNING", "SUCCEEDED"]
    kubeflow.started_before = 110
    _, said = submit(*DATA, "--wait", "--name", "early")
    assert "has waited" not in said
    kubeflow.started_before = 130
    _, said = submit(*DATA, "--wait", "--name", "late")
    pod = [run["_pods"][SECOND] for run in kubeflow.runs.values()][-1]
    assert said.count("has waited") == 1
    assert f"{SECOND} has waited 2 min for its pod {pod}: reason not known" in said
    assert f"kubectl -n kubeflow describe pod {pod}" in said


def test_pods_that_cannot_be_told_apart_are_told_by_their_logs(submit, kubeflow, mlflow_says, monkeypatch):
    monkeypatch.setattr(run_monitor, "LOG_INTERVAL", 60.0)
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    kubeflow.started_before = 300
    kubeflow.together = True
    kubeflow.goes[SECOND] = ["PENDING"] * 4 + ["RUNNING", "SUCCEEDED"]
    kubeflow.goes[titles()[2]] = ["RUNNING"] * 5 + ["SUCCEEDED"]
    kubeflow.logs[titles()[2]] = LOG_TAG + "at work\n"
    _, said = submit(*DATA, "--wait")
    assert f"{SECOND} has waited" in said and f"{titles()[2]} has waited" not in said
