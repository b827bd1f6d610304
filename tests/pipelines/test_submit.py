"""`metseg submit` against a server that takes only what the published schema of Kubeflow Pipelines allows."""

from __future__ import annotations

import base64
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from werkzeug.wrappers import Request, Response

from metseg import cli
from metseg.errors import KubeflowError, UsageError
from metseg.settings import Settings
from metseg.tracking import runs
from pipelines.compiling import COMPILED
from pipelines.submission import following
from pipelines.submission.client import Kubeflow as Client
from pipelines.submission.package import package
from pipelines.submission.submit import cron_of
from pipelines.submission.token import TokenSource, expired_since
from tests.pipelines.kubeflow_server import INVALID, Kubeflow, Refused, check, routes, serving
from tests.tracking import image_server

DATA = ("--param", "reference=s3://scans/2026")
TASKS = 13


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No token and no MLflow from outside; no pause between two looks."""
    for name in ("KF_PIPELINES_SA_TOKEN_PATH", "METSEG_KUBEFLOW_TOKEN", "MLFLOW_TRACKING_URI", "KF_PIPELINES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.setattr(following, "INTERVAL", 0.001)


@pytest.fixture
def kubeflow() -> Kubeflow:
    return Kubeflow()


@pytest.fixture
def host(kubeflow):
    with serving(kubeflow) as address:
        yield address


@pytest.fixture
def submit(monkeypatch, capsys, caplog, host) -> Callable[..., tuple[int, str]]:
    """Exit code of `metseg submit` with these arguments, and all that it said."""

    def call(*arguments: str, at: str = host) -> tuple[int, str]:
        caplog.clear()
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(sys, "argv", ["metseg", "submit", "--host", at, *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out + shown.err + caplog.text

    return call


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory) -> str:
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    runs.client(replace(Settings.from_environment(), tracking_uri=uri))
    return uri


@pytest.fixture
def mlflow_says(monkeypatch, mlflow, kubeflow) -> Callable[..., None]:
    """Have the run that is started leave tags in MLflow, as the pipeline's steps would."""

    def says(**tags: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow)
        settings = Settings.from_environment()
        tracking = runs.client(settings)

        def leave(run: str) -> None:
            own = {"kfp.pipeline_run_id": run, "metseg.kind": "pipeline"}
            named = {name.replace("_", "."): value for name, value in tags.items()}
            runs.start_run(tracking, settings, "r", {}, {**own, **named})

        kubeflow.started = leave

    return says


def written(kubeflow: Kubeflow) -> list[str]:
    """Requests that change something."""
    return [path.partition("?")[0].removeprefix("/apis/v2beta1/") for method, path in kubeflow.log if method != "GET"]


def test_first_submission_makes_pipeline_version_experiment_and_run(submit, kubeflow, host):
    code, said = submit(
        *DATA, "--param", "epochs=7", "--param", 'accelerator_node_selector={"zone": "b"}', "--name", "june"
    )
    assert code == 0
    assert [path for path in written(kubeflow) if path != "runs"] == [
        "pipelines",
        "pipelines/upload_version",
        "experiments",
    ]
    (identity, run), (pipeline, version) = (
        *kubeflow.runs.items(),
        *((v["pipeline_id"], v) for v in kubeflow.versions.values()),
    )
    assert run["display_name"] == "june"
    parameters = run["runtime_config"]["parameters"]
    assert parameters["reference"] == "s3://scans/2026" and parameters["epochs"] == 7
    assert parameters["run_name"] == "june" and parameters["accelerator_node_selector"] == {"zone": "b"}
    assert f"{host}/#/runs/details/{identity}" in said
    assert f"{host}/#/pipelines/details/{pipeline}/version/{version['pipeline_version_id']}" in said
    assert version["documents"] == list(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8")))


def test_unchanged_pipeline_is_not_uploaded_again_and_a_changed_one_is_a_new_version(submit, kubeflow):
    submit(*DATA)
    kubeflow.log.clear()
    submit(*DATA)
    assert written(kubeflow) == ["runs"]
    kubeflow.log.clear()
    with image_server.running() as registry:
        group = f"{registry.host}/absent"
        code, said = submit(*DATA, "--images", f"{group}:9.9")
    assert code == 2 and f"{group}/metseg-data:9.9" in said and "docker push" in said and written(kubeflow) == []
    code, _ = submit(*DATA, "--images", "9.9")
    assert code == 0 and written(kubeflow) == ["pipelines/upload_version", "runs"]
    assert len(kubeflow.pipelines) == 1 and len(kubeflow.versions) == 2


def test_images_of_one_build_are_put_into_every_task():
    plain, built = package(), package("registry.example.org:5000/imaging:0.2.0")
    assert built.images == tuple(f"registry.example.org:5000/imaging/metseg-{name}:0.2.0" for name in ("data", "train"))
    assert built.version != plain.version
    documents = list(yaml.safe_load_all(built.text))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        named = {entry["name"]: entry["value"] for entry in executor["container"]["env"]}
        assert named.get("METSEG_IMAGE", built.images[1]) == built.images[1]
    # Nothing but the names of images differs.
    assert built.text.replace("registry.example.org:5000/imaging/", "").replace(":0.2.0", ":0.1.0") == plain.text


@pytest.mark.parametrize("images", ["registry.example.org:5000/imaging", "registry/imaging/:1", "a b", ":1:"])
def test_images_that_name_no_tag_are_refused(images):
    with pytest.raises(UsageError, match="PREFIX:TAG"):
        package(images)


def test_wait_follows_every_task_and_ends_with_the_verdict(submit, kubeflow, mlflow_says):
    mlflow_says(verdict="promote", winner="nested_unet", registered_version="4")
    kubeflow.plugins = {
        "mlflow": {"entries": {"run_url": {"value": "https://mlflow.example.org/#/run", "render_type": "URL"}}}
    }
    code, said = submit(*DATA, "--wait")
    assert code == 0
    assert "the gate passed nested_unet: registered as version 4" in said
    assert "MLflow https://mlflow.example.org/#/run" in said
    for task in ("check parameters", "train attention_unet", "promote"):
        assert f"{task}: running" in said and f"{task}: succeeded" in said
    assert "root-driver" not in said and f"tasks {TASKS}/{TASKS}" in said


@pytest.mark.parametrize("outcome", ["rejected", "tie", "incomparable"])
def test_wait_ends_with_3_where_the_gate_registers_nothing(submit, mlflow_says, outcome):
    mlflow_says(verdict=outcome, winner="unet")
    code, said = submit(*DATA, "--wait")
    assert code == 3 and f"the gate said {outcome}" in said


def test_wait_without_a_verdict_in_mlflow_is_no_success(submit, mlflow_says):
    mlflow_says()
    code, said = submit(*DATA, "--wait")
    assert code == 1 and "has no verdict" in said


def test_failed_run_ends_with_1_and_says_which_task_and_why(submit, kubeflow, mlflow_says, host):
    mlflow_says(verdict="promote")
    kubeflow.ends, kubeflow.failing = "FAILED", ("validate", "exit status 1")
    code, said = submit(*DATA, "--wait")
    assert code == 1 and "validate (exit status 1)" in said and f"{host}/#/runs/details/" in said


def test_wait_needs_mlflow_before_anything_is_started(submit, kubeflow, monkeypatch):
    code, said = submit(*DATA, "--wait")
    assert code == 2 and "MLFLOW_TRACKING_URI" in said and not kubeflow.log
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, said = submit(*DATA, "--wait")
    assert code == 1 and "MLflow at http://127.0.0.1:9 does not answer" in said and not kubeflow.log


def test_kubeflow_that_is_away_for_a_while_is_asked_again(submit, kubeflow, mlflow_says):
    mlflow_says(verdict="promote", winner="unet", registered_version="1")
    leave = kubeflow.started

    def leave_and_go(run: str) -> None:
        leave(run)
        kubeflow.away = 5

    kubeflow.started = leave_and_go
    code, said = submit(*DATA, "--wait")
    assert code == 0 and said.count("Kubeflow does not answer") == 1


def test_task_that_gets_no_pod_is_spoken_of(kubeflow, host, caplog):
    caplog.set_level(logging.INFO)
    kubeflow.stuck = "ingest"
    client = Client(host, TokenSource(), "imaging")
    looks = 0

    def pause(_: float) -> None:
        nonlocal looks
        looks += 1
        time.sleep(0.01)
        if looks > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        following.Follower(client, run_of(client, kubeflow), 0.0, long_wait=0.05, sleep=pause).follow(TASKS)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "ingest has waited" in told and "cannot be pulled" in told
    assert "kubectl -n imaging describe pod pod-of-ingest" in told


def run_of(client: Client, kubeflow: Kubeflow) -> str:
    from pipelines.submission.submit import submit as start

    return start(client, package(), {"reference": "s3://scans/2026"}, "r").identity


def test_cron_makes_a_schedule_and_takes_the_place_of_the_one_of_that_name(submit, kubeflow, host):
    code, said = submit(*DATA, "--cron", "0 3 * * 1")
    assert code == 0 and not kubeflow.runs
    (first,) = kubeflow.schedules.values()
    assert first["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"
    assert first["mode"] == "ENABLE" and first["max_concurrency"] == "1" and first["no_catchup"] is True
    assert f"{host}/#/recurringrun/details/{first['recurring_run_id']}" in said
    submit(*DATA, "--cron", "30 4 * * *")
    (second,) = kubeflow.schedules.values()
    assert second["trigger"]["cron_schedule"]["cron"] == "0 30 4 * * *"
    submit(*DATA, "--cron", "30 4 * * *", "--name", "other")
    assert len(kubeflow.schedules) == 2


@pytest.mark.parametrize("cron", ["daily", "* * *", "0 3 * * 1 2 3", "0 3 * * mon!"])
def test_cron_that_is_none_is_refused(cron):
    with pytest.raises(UsageError, match="minute, hour, day"):
        cron_of(cron)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("--param", "reference=s3://scans/2026", "--param", "epochs=0"),
            "epochs=0 is out of range: expected 1 or more",
        ),
        (("--param", "reference=s3://scans/2026", "--param", "epochs=many"), "not a whole number"),
        (("--param", "reference=s3://scans/2026", "--param", "epoch=3"), "expected NAME=VALUE"),
        (("--param", "reference=s3://scans/2026", "--param", "accelerator_tolerations={}"), "not a JSON list"),
        (("--param", "reference=scans"), "pods of a cluster see no folder"),
        ((), "pods of a cluster see no folder"),
        ((*DATA, "--wait", "--cron", "0 3 * * 1"), "leave one of the two out"),
    ],
)
def test_what_cannot_be_is_refused_before_kubeflow_is_asked(submit, kubeflow, arguments, expected):
    code, said = submit(*arguments)
    assert code == 2 and expected in said and not kubeflow.log


def test_several_peoples_kubeflow_needs_a_namespace(submit, kubeflow):
    kubeflow.multi_user = True
    code, said = submit(*DATA)
    assert code == 2 and "--namespace" in said and written(kubeflow) == []
    code, _ = submit(*DATA, "--namespace", "imaging")
    assert code == 0
    (experiment,) = kubeflow.experiments.values()
    assert experiment["namespace"] == "imaging"


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
        ("", "asks for a token, and none was given"),
        (token(1_600_000_000), "the token is over since"),
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
    assert code == 1 and "kubectl create token" in said and f"The run goes on: {host}/#/runs/details/" in said


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
        (answering(302, "", "text/html", Location="/dex/auth"), "asks for a token"),
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
    assert code == 1 and f"nothing answers at {address}" in said and "kubectl port-forward" in said


@pytest.mark.parametrize("address", ["kubeflow.example.org", "ftp://kubeflow.example.org", "https://"])
def test_host_that_is_no_address_is_refused(submit, address):
    code, said = submit(*DATA, at=address)
    assert code == 2 and "https://" in said


def test_server_of_these_tests_refuses_what_the_schema_does_not_have(host):
    client = Client(host, TokenSource())
    with pytest.raises(KubeflowError, match="a pipeline that there is"):
        client.call("uploading", client.uploads.upload_pipeline_version, str(Path(__file__)), name="v", pipelineid="x")
    for body, kind in (
        ({"display_name": 3}, "V2beta1Pipeline"),
        ({"title": "x"}, "V2beta1Pipeline"),
        ({"mode": "ON"}, "V2beta1RecurringRun"),
        ({"trigger": {"cron_schedule": {"every": "day"}}}, "V2beta1RecurringRun"),
        ({"created_at": "yesterday"}, "V2beta1Run"),
    ):
        with pytest.raises((Refused, ValueError)) as refused:
            check(body, kind, kind)
        assert not isinstance(refused.value, Refused) or refused.value.code == INVALID
    assert {"run_service_create_run", "upload_pipeline_version"} <= {route.operation for route in routes()}
