"""`metseg submit` against a server that takes only what the published schema of Kubeflow Pipelines allows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from metseg.errors import KubeflowError, UsageError
from metseg.tracking.code_version import package_version
from pipelines.compiling import COMPILED
from pipelines.submission.kubeflow_client import Kubeflow as Client
from pipelines.submission.kubeflow_token import TokenSource
from pipelines.submission.pipeline_package import package
from pipelines.submission.submit import REFERENCE, RUN_NAME
from tests.pipelines.submission import DATA
from tests.pipelines.submission.kubeflow_server import UNAVAILABLE, Kubeflow
from tests.pipelines.submission.schema import INVALID, Refused, check, routes
from tests.tracking import image_server


def written(kubeflow: Kubeflow) -> list[str]:
    """Requests that change something."""
    return [path.partition("?")[0].removeprefix("/apis/v2beta1/") for method, path in kubeflow.log if method != "GET"]


def test_first_submission_makes_pipeline_version_experiment_and_run(submit, kubeflow, host):
    code, said = submit(
        *DATA, "--param", "train_epochs=7", "--param", 'gpu_node_selector={"zone": "b"}', "--name", "june"
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
    assert parameters[REFERENCE] == "s3://scans/2026" and parameters["train_epochs"] == 7
    assert parameters[RUN_NAME] == "june" and json.loads(parameters["pod_options"]) == {
        "gpu_node_selector": {"zone": "b"}
    }
    assert f"{host}/#/runs/details/{identity}" in said
    assert f"{host}/#/pipelines/details/{pipeline}/version/{version['pipeline_version_id']}" in said
    assert version["_documents"] == list(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8")))


def test_unchanged_pipeline_is_not_uploaded_again_and_a_changed_one_is_a_new_version(submit, kubeflow):
    submit(*DATA)
    kubeflow.log.clear()
    submit(*DATA, "--again")
    assert written(kubeflow) == ["runs"]
    kubeflow.log.clear()
    with image_server.running() as registry:
        group = f"{registry.host}/absent"
        code, said = submit(*DATA, "--images", f"{group}:9.9")
    assert code == 2 and f"{group}/metseg-data:9.9" in said and "docker push" in said and written(kubeflow) == []
    code, said = submit(*DATA, "--images", "9.9")
    assert code == 0 and written(kubeflow) == ["pipelines/upload_version", "runs"]
    assert "metseg-data:9.9: its registry cannot be queried" in said and "Kubeflow's UI will offer the version" in said
    assert len(kubeflow.pipelines) == 1 and len(kubeflow.versions) == 2


def test_images_of_one_build_are_put_into_every_task():
    plain, built = package(), package("registry.example.org:5000/imaging:7.0.0")
    assert built.images == tuple(f"registry.example.org:5000/imaging/metseg-{name}:7.0.0" for name in ("data", "train"))
    assert built.version != plain.version
    documents = list(yaml.safe_load_all(built.text))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        named = {entry["name"]: entry["value"] for entry in executor["container"].get("env", [])}
        assert named.get("METSEG_IMAGE", built.images[1]) == built.images[1]
    # Nothing but the names of images differs.
    assert (
        built.text.replace("registry.example.org:5000/imaging/", "").replace(":7.0.0", f":{package_version()}")
        == plain.text
    )


@pytest.mark.parametrize("images", ["registry.example.org:5000/imaging", "registry/imaging/:1", "a b", ":1:"])
def test_images_that_name_no_tag_are_refused(images):
    with pytest.raises(UsageError, match="PREFIX:TAG"):
        package(images)


def test_dry_run_shows_what_would_be_sent_and_sends_nothing(submit, kubeflow):
    code, said = submit(*DATA, "--images", "9.9", "--param", "train_epochs=7", "--name", "june", "--dry-run")
    assert code == 0 and not kubeflow.log and "Nothing was sent" in said
    assert (
        f"version {package('9.9').version}" in said and "image metseg-train:9.9: its registry cannot be queried" in said
    )
    for line in (
        "Would be started: june",
        "train_epochs = 7",
        f"{RUN_NAME} = 'june'",
        f"{REFERENCE} = 's3://scans/2026'",
    ):
        assert line in said
    code, said = submit(*DATA, "--cron", "0 3 * * 1", "--dry-run", at="")
    assert code == 0 and "Would be scheduled" in said and "(UTC, unless" in said


def test_submit_without_an_address_says_how_to_give_one(submit):
    code, said = submit(*DATA, at="")
    assert code == 2 and "--host" in said and "port-forward" in said


def test_run_whose_answer_is_lost_is_found(submit, kubeflow):
    kubeflow.lose = 1
    code, said = submit(*DATA)
    (identity,) = kubeflow.runs
    assert code == 0 and "did not respond in time, but the run was created" in said and identity in said


def test_run_that_was_not_made_is_said_not_to_be_there(submit, kubeflow, monkeypatch):
    def refuse(*_):
        raise Refused(UNAVAILABLE, "upstream request timeout")

    monkeypatch.setattr(kubeflow, "_run_service_create_run", refuse)
    code, said = submit(*DATA, "--name", "june")
    assert code == 1 and "No run named june exists" in said and "Submitting again is safe" in said


def test_run_that_may_have_been_made_is_not_said_to_be_absent(submit, kubeflow):
    kubeflow.lose = 1
    kubeflow.started = lambda run: setattr(kubeflow, "away", 10**6)
    code, said = submit(*DATA, "--name", "june")
    assert code == 4 and "Whether the run exists is not known" in said and "No run named" not in said
    assert "Submitting again is safe" in said


@pytest.mark.parametrize("naming", [("--name", "june"), ()])
def test_submit_that_is_repeated_takes_up_the_run_that_is_there(submit, kubeflow, naming):
    submit(*DATA, *naming)
    code, said = submit(*DATA, *naming)
    assert code == 0 and len(kubeflow.runs) == 1 and "is reused" in said and next(iter(kubeflow.runs)) in said
    submit(*DATA, *naming, "--again")
    assert len(kubeflow.runs) == 2


@pytest.mark.parametrize(
    "change", [{"state": "FAILED"}, {"state": "SUCCEEDED"}, {"created_at": "2026-01-01T00:00:00Z"}]
)
def test_run_that_ended_or_is_old_is_not_taken_up(submit, kubeflow, change):
    submit(*DATA, "--name", "june")
    next(iter(kubeflow.runs.values())).update(change)
    submit(*DATA, "--name", "june")
    assert len(kubeflow.runs) == 2


@pytest.mark.parametrize(
    "other",
    [
        (*DATA, "--name", "july"),
        (*DATA, "--name", "june", "--param", "train_epochs=3"),
        (*DATA, "--name", "june", "--images", "9.9"),
        (*DATA, "--param", f"{'model_name'}=other"),
    ],
)
def test_run_of_another_name_version_or_parameter_is_not_taken_up(submit, kubeflow, other):
    submit(*DATA, "--name", "june")
    submit(*other)
    assert len(kubeflow.runs) == 2


def test_making_a_run_may_take_three_minutes(submit, kubeflow, monkeypatch):
    import kfp_server_api

    asked = []
    create = kfp_server_api.RunServiceApi.run_service_create_run
    monkeypatch.setattr(
        kfp_server_api.RunServiceApi,
        "run_service_create_run",
        lambda self, body, **named: asked.append(named["_request_timeout"]) or create(self, body, **named),
    )
    submit(*DATA)
    assert asked == [180]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            (*DATA, "--param", "train_epochs=0"),
            "train_epochs=0 is out of range: expected 1 or more",
        ),
        ((*DATA, "--param", "train_epochs=many"), "not a whole number"),
        ((*DATA, "--param", "train_epoch=3"), "did you mean train_epochs?"),
        ((*DATA, "--param", "gpu_tolerations={}"), "not a JSON list"),
        (("--param", f"{REFERENCE}=scans"), "pods of a cluster cannot read folders"),
        ((), "pods of a cluster cannot read folders"),
        ((*DATA, "--wait", "--cron", "0 3 * * 1"), "leave one of the two out"),
        ((*DATA, "--cron", "0 3 * * 7"), "Sunday is 0"),
        (("--schedules", "--pause", "weekly"), "only one of them is possible"),
        (("--follow", "x", "--dry-run"), "--follow starts no run"),
        ((*DATA, "--delete", "weekly"), "--delete starts no run"),
        (("--schedules", "--wait"), "a schedule has no end to wait for"),
        (("--pause", "weekly", "--wait"), "a schedule has no end to wait for"),
        (("--resume", "weekly", "--wait"), "a schedule has no end to wait for"),
        (("--delete", "weekly", "--wait"), "a schedule has no end to wait for"),
        ((*DATA, "--cron", "0 3 * * 1", "--again"), "leave --again out"),
        ((*DATA, "--name", "b", "--param", f"{RUN_NAME}=a"), "a run has one name"),
        (("--follow", "http://kubeflow.example.org/"), "expected a run's id"),
        *(
            ((*DATA, option, value), f'{option} "": the value is empty')
            for option in ("--follow", "--cron", "--pause", "--resume", "--delete", "--name", "--images", "--profile")
            for value in ("", " ")
        ),
    ],
)
def test_what_cannot_be_is_refused_before_kubeflow_is_asked(submit, kubeflow, arguments, expected):
    code, said = submit(*arguments)
    assert code == 2 and expected in said and not kubeflow.log


@pytest.mark.parametrize(
    ("naming", "name"),
    [
        (("--name", "a", "--param", f"{RUN_NAME}=a"), "a"),
        (("--param", f"{RUN_NAME}=a"), "a"),
        (("--name", "a"), "a"),
        (("--name", "a", "--param", f"{RUN_NAME}="), "a"),
        ((), None),
        (("--param", f"{RUN_NAME}="), None),
    ],
)
def test_run_is_called_alike_in_kubeflow_and_in_mlflow(submit, kubeflow, naming, name):
    code, _ = submit(*DATA, *naming)
    (run,) = kubeflow.runs.values()
    assert code == 0 and run["display_name"] == run["runtime_config"]["parameters"][RUN_NAME]
    assert run["display_name"] == name or (name is None and run["display_name"].startswith("brain-mets-segmentation 2"))


def test_several_peoples_kubeflow_needs_a_namespace(submit, kubeflow):
    kubeflow.multi_user = True
    code, said = submit(*DATA)
    assert code == 2 and "--namespace" in said and written(kubeflow) == []
    code, _ = submit(*DATA, "--namespace", "imaging")
    assert code == 0
    (experiment,) = kubeflow.experiments.values()
    assert experiment["namespace"] == "imaging"


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
