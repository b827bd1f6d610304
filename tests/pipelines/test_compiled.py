"""The committed YAML is what the pipeline's code compiles to, and asks for what every task needs."""

from __future__ import annotations

import pytest
import yaml

from metseg.training.configuration import ARCHITECTURES
from pipelines.compiling import COMPILED, compile_pipeline


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = compile_pipeline(tmp_path_factory.mktemp("compiled") / "training.yaml")
    return next(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def test_committed_yaml_is_up_to_date(compiled):
    committed = next(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8")))
    assert committed == compiled, "run `make compile` and commit the result"


def test_every_architecture_is_a_named_task(compiled):
    names = {task["taskInfo"]["name"] for task in compiled["root"]["dag"]["tasks"].values()}
    assert {f"{step} {network}" for step in ("train", "evaluate") for network in ARCHITECTURES} <= names


def test_every_task_has_limits(compiled):
    for label, executor in compiled["deploymentSpec"]["executors"].items():
        resources = executor["container"]["resources"]
        assert resources["resourceCpuLimit"] and resources["resourceMemoryLimit"], label


def test_training_asks_for_an_accelerator_by_parameter(compiled):
    for label, executor in compiled["deploymentSpec"]["executors"].items():
        accelerator = executor["container"]["resources"].get("accelerator")
        assert ("train" in label) == (accelerator is not None), label
        if accelerator:
            assert "accelerator" in accelerator["resourceType"] and "accelerator" in accelerator["resourceCount"]


def test_steps_with_side_effects_are_not_cached(compiled):
    tasks = compiled["root"]["dag"]["tasks"]
    for name in ("ingest", "register", "promote", "evaluate-champion"):
        assert not tasks[name]["cachingOptions"].get("enableCache", False), name


def test_no_task_installs_anything_at_start(compiled):
    for executor in compiled["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_every_parameter_is_described(compiled):
    for name, parameter in compiled["root"]["inputDefinitions"]["parameters"].items():
        assert parameter.get("description"), name
