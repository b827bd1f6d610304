"""`metseg submit` against a server that takes only what the published schema of Kubeflow Pipelines allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from metseg.errors import KubeflowError, UsageError
from pipelines.compiling import COMPILED
from pipelines.submission.client import Kubeflow as Client
from pipelines.submission.package import package
from pipelines.submission.submit import cron_of
from pipelines.submission.token import TokenSource
from tests.pipelines.submission import DATA
from tests.pipelines.submission.kubeflow_server import INVALID, Kubeflow, Refused, check, routes
from tests.tracking import image_server


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
