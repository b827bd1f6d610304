"""What of the compiled pipeline a run on this machine leaves out, and the variables of each step."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from metseg.hidden_secrets import ADDRESSES, SECRETS
from metseg.process_environment import prepare
from metseg.settings import Settings
from pipelines.local import _for_this_machine
from pipelines.placement import NEEDS
from pipelines.training import training_pipeline

OF_PODS = {"METSEG_STATE", "METSEG_IMAGE", "METSEG_DISK_GB"}
NETWORKS = ("nested_unet", "attention_unet")
PROXIES = {"HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "https_proxy"}
MLFLOW = {
    *("METSEG_MLFLOW_PASSWORD", "METSEG_MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI"),
    *("METSEG_KUBEFLOW_API", "METSEG_KUBEFLOW_URL", "METSEG_MLFLOW_URL"),
    *PROXIES,
}
STORAGE = {
    *("AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "METSEG_S3_ENDPOINT_URL", "METSEG_S3_SECRET_ACCESS_KEY"),
    "MLFLOW_S3_ENDPOINT_URL",
}
GIVEN = {
    "check": set(),
    "ingest": MLFLOW | STORAGE | {"METSEG_PSEUDONYM_KEY"},
    "validate": MLFLOW,
    "preprocess": set(),
    "train": MLFLOW,
    "evaluate": MLFLOW,
    "register": MLFLOW,
    "promote": MLFLOW,
}
"""Variables with a secret, or an address that may hold one, that each step gets; no step gets any other."""


def executors(pipeline: Any) -> dict[str, Any]:
    """The containers of a pipeline's steps, by label."""
    listed = MessageToDict(pipeline.pipeline_spec)["deploymentSpec"]["executors"]
    return {label: executor["container"] for label, executor in listed.items()}


def variables(pipeline: Any) -> set[str]:
    """Names of the variables that the pipeline sets for its steps."""
    return {variable["name"] for container in executors(pipeline).values() for variable in container.get("env", ())}


@pytest.fixture
def planted(monkeypatch, tmp_path) -> Settings:
    """A secret in every variable that may hold one."""
    for name in SECRETS:
        monkeypatch.setenv(name, f"planted-{name}")
    for name in ADDRESSES:
        monkeypatch.setenv(name, f"https://me:planted-{name}@host.example")
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("METSEG_ARTIFACT_ROOT", "")
    monkeypatch.setenv("UNRELATED_TOKEN", "planted-elsewhere")
    return Settings(workspace=tmp_path)


def test_a_step_on_this_machine_gets_no_variable_of_a_pod(planted):
    pipeline = training_pipeline(NETWORKS)
    assert variables(pipeline) == OF_PODS
    assert variables(_for_this_machine(pipeline, planted, in_containers=False)) == set()
    pipeline = _for_this_machine(training_pipeline(NETWORKS), planted, in_containers=True)
    assert variables(pipeline) >= OF_PODS


def test_the_table_has_every_step():
    assert GIVEN.keys() == NEEDS.keys()


@pytest.mark.parametrize("step", GIVEN)
def test_a_step_in_a_container_gets_what_it_needs_by_name(planted, step):
    prepared = executors(_for_this_machine(training_pipeline(NETWORKS), planted, in_containers=True))
    of_step = [container for label, container in prepared.items() if label.split("-")[1] == step]
    assert of_step
    for container in of_step:
        given = {entry["name"]: entry["value"] for entry in container["env"]}
        assert {name for name, value in given.items() if "planted" in value} == GIVEN[step]
        assert not {"PATH", "HOME", "METSEG_WORKSPACE", "METSEG_GIT_CREDENTIALS"} & given.keys()


@pytest.mark.parametrize("step", GIVEN)
def test_a_step_on_this_machine_gets_what_it_needs_by_name(planted, step):
    """The command is run for real, with a program in place of the step that prints what it was given."""
    prepared = executors(_for_this_machine(training_pipeline(NETWORKS), planted, in_containers=False))
    of_step = [container for label, container in prepared.items() if label.split("-")[1] == step]
    assert of_step
    for container in of_step:
        command = container["command"]
        prefix = command[: command.index("sh")]
        assert "planted" not in " ".join(command)
        printed = subprocess.run([*prefix, "cat", "/proc/self/environ"], capture_output=True, check=True).stdout
        given = dict(entry.partition("=")[::2] for entry in printed.decode().rstrip("\0").split("\0"))
        assert {name for name, value in given.items() if "planted" in value} == GIVEN[step]
        assert given["PATH"] == os.environ["PATH"] and given["METSEG_WORKSPACE"]


def test_artifacts_in_a_bucket_need_its_keys_where_mlflow_is_called(planted):
    settings = planted.replaced(artifact_root="s3://runs/artifacts")
    prepared = executors(_for_this_machine(training_pipeline(NETWORKS), settings, in_containers=True))
    with_keys = {
        label.split("-")[1]
        for label, container in prepared.items()
        if "AWS_SECRET_ACCESS_KEY" in {entry["name"] for entry in container["env"]}
    }
    assert with_keys == {step for step, needs in NEEDS.items() if needs.mlflow}


def test_a_login_in_mlflows_address_reaches_the_steps_outside_of_it(monkeypatch, planted):
    monkeypatch.setenv("METSEG_MLFLOW_TRACKING_URI", "https://me:a%2Fb@mlflow.example:5000")
    prepare()
    (trained, *_) = [
        {entry["name"]: entry["value"] for entry in container["env"]}
        for label, container in executors(_for_this_machine(training_pipeline(NETWORKS), planted, True)).items()
        if label.startswith("exec-train")
    ]
    assert trained["METSEG_MLFLOW_TRACKING_URI"] == trained["MLFLOW_TRACKING_URI"] == "https://mlflow.example:5000"
    assert (trained["MLFLOW_TRACKING_USERNAME"], trained["MLFLOW_TRACKING_PASSWORD"]) == ("me", "a/b")
