"""Tokens and hosts of Kubeflow: those that do, and a remedy for those that do not."""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from collections.abc import Callable

import pytest
from werkzeug.wrappers import Request, Response

from metseg import cli
from pipelines.submission.kubeflow_token import expired_since
from tests.pipelines.submission import DATA, recorded
from tests.pipelines.submission.kubeflow_server import serving


def token(ends: float) -> str:
    parts = [{"alg": "none"}, {"exp": ends, "sub": "system:serviceaccount:imaging:editor"}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2ln"])


def test_token_is_shown_and_read_anew(submit, kubeflow, tmp_path, mlflow_says):
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    first, second = token(time.time() + 600), token(time.time() + 1200)
    path = tmp_path / "token"
    path.write_text(first + "\n")
    kubeflow.tokens = {first}
    leave = kubeflow.started

    def renew(run: str) -> None:
        leave(run)
        path.write_text(second)
        kubeflow.tokens = {second}

    kubeflow.started = renew
    code, _ = submit(*DATA, "--wait", "--token-file", str(path))
    assert code == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "requires a token, and none was given"),
        (token(1_600_000_000), "the token expired"),
        ("not-a-token", "does not accept the token"),
    ],
)
def test_token_that_does_not_do_is_told_with_the_remedy(submit, kubeflow, monkeypatch, given, expected):
    kubeflow.tokens = {"right"}
    monkeypatch.setenv("METSEG_KUBEFLOW_TOKEN", given)
    code, said = submit(*DATA)
    assert code == 1 and expected in said and "kubectl create token" in said
    assert not given or given not in said


def test_token_that_is_over_while_waiting_says_that_the_run_goes_on(submit, kubeflow, mlflow_says, monkeypatch, host):
    mlflow_says(verdict="promote")
    monkeypatch.setenv("METSEG_KUBEFLOW_TOKEN", "right")
    kubeflow.tokens = {"right"}

    def expire(run: str) -> None:
        kubeflow.tokens = set()

    kubeflow.started = expire
    code, said = submit(*DATA, "--wait")
    assert code == 4 and "kubectl create token" in said and f"The run continues: {host}/#/runs/details/" in said


def test_token_file_that_goes_away_while_waiting_says_that_the_run_goes_on(submit, kubeflow, tmp_path, mlflow_says):
    mlflow_says(verdict="promote")
    path = tmp_path / "token"
    path.write_text("right")
    leave = kubeflow.started

    def take_away(run: str) -> None:
        leave(run)
        path.unlink()

    kubeflow.started = take_away
    code, said = submit(*DATA, "--wait", "--token-file", str(path))
    assert code == 4 and f"token file {path} cannot be read" in said and "The run continues" in said


def test_missing_token_file_names_the_file_and_the_remedy(submit, tmp_path):
    code, said = submit(*DATA, "--token-file", str(tmp_path / "none"))
    assert code == 2 and str(tmp_path / "none") in said and "kubectl create token" in said


def test_end_of_a_token_is_read_from_it():
    assert expired_since(token(time.time() - 120)) == pytest.approx(120, abs=5)
    assert expired_since(token(time.time() + 120)) is None and expired_since("a.b.c") is None


def answering(status: int, body: str, mimetype: str, **headers: str) -> Callable:
    def application(environment, start):
        Request(environment)
        return Response(body, status, headers, mimetype=mimetype)(environment, start)

    return application


@pytest.mark.parametrize(
    ("application", "expected"),
    [
        (answering(200, "<html>Log in</html>", "text/html"), "is no Kubeflow Pipelines"),
        (answering(200, "{}", "application/json"), "is no Kubeflow Pipelines"),
        (answering(404, "not found", "text/plain"), "ends in /pipeline"),
        (answering(302, "", "text/html", Location="/dex/auth"), "requires a token"),
        (answering(502, "bad gateway", "text/html"), "Try again later"),
    ],
)
def test_host_that_is_another_says_so(submit, application, expected):
    with serving(application) as elsewhere:
        code, said = submit(*DATA, at=elsewhere)
    assert code == 1 and expected in said and "Traceback" not in said


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://nowhere.invalid"])
def test_host_that_is_not_there_says_what_to_do(submit, address):
    code, said = submit(*DATA, at=address)
    assert code == 1 and f"no response from {address}" in said and "kubectl port-forward" in said


@pytest.mark.parametrize("address", ["kubeflow.example.org", "ftp://kubeflow.example.org", "https://"])
def test_host_that_is_no_address_is_refused(submit, address):
    code, said = submit(*DATA, at=address)
    assert code == 2 and "https://" in said


@pytest.mark.parametrize("health", ["healthz", "healthz-through-ui"])
def test_version_that_is_not_said_is_warned_of_with_the_oldest(submit, kubeflow, health):
    # Recorded: a Kubeflow that was built from its sources calls itself "unknown".
    kubeflow.health = recorded.answer(health)
    code, said = submit(*DATA)
    assert code == 0 and "does not report its version (unknown): Kubeflow Pipelines 2.16 is the oldest" in said


@pytest.mark.parametrize("health", [{}, {"tag_name": "sha-1a2b3c"}])
def test_version_that_is_no_number_is_warned_of(submit, kubeflow, health):
    kubeflow.health = health
    code, said = submit(*DATA)
    assert code == 0 and "2.16 is the oldest" in said


@pytest.mark.parametrize("health", [{"tag_name": "2.15.0"}, {"apiServerTagName": "2.5.2"}, {"tag_name": "v1.8.22"}])
def test_older_version_is_refused_before_anything_is_sent(submit, kubeflow, health):
    kubeflow.health = health
    code, said = submit(*DATA)
    found = next(iter(health.values()))
    assert code == 1 and f"is Kubeflow Pipelines {found}, and 2.16 is the oldest" in said and "upgrade" in said
    assert [method for method, _ in kubeflow.log] == ["GET"]


@pytest.mark.parametrize("health", [{"tag_name": "2.16.0"}, {"apiServerTagName": "2.17.0"}, {"tag_name": "v3.0.0-rc1"}])
def test_version_that_takes_the_pipeline_is_not_spoken_of(submit, kubeflow, health):
    kubeflow.health = health
    code, said = submit(*DATA)
    assert code == 0 and "oldest" not in said


def test_every_option_has_help_and_stands_in_a_group(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["metseg", "submit", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr().out.partition("Examples:")[0]
    sections = re.findall(r"^(\w+):$", shown, re.MULTILINE)
    assert sections[:4] == ["Run", "Watch", "Schedules", "Access"]
    options = re.findall(r"^  (--[\w-]+)(.*(?:\n {4,}.*)?)", shown, re.MULTILINE)
    assert len(options) >= 16 and all(len(text.split()) > 2 for _, text in options), options
