"""The committed YAML is what the pipeline's code compiles to, and asks for what every task needs."""

from __future__ import annotations

import re

import pytest
import yaml

from metseg.training.configuration import ARCHITECTURES
from pipelines.compiling import COMPILED, compile_pipeline

STEPS = {
    "check parameters": "check",
    "ingest": "ingest",
    "validate": "validate",
    "preprocess": "preprocess",
    **{f"train {network}": "train" for network in ARCHITECTURES},
    **{f"evaluate {network}": "evaluate" for network in ARCHITECTURES},
    "evaluate champion": "evaluate",
    "register": "register",
    "promote": "promote",
}
PURE = {"check parameters", "preprocess"}
"""What writes nowhere but to its outputs; all else opens runs in MLflow, writes to them, or moves aliases."""
AGAIN = {name for name, step in STEPS.items() if step in {"ingest", "preprocess", "train", "evaluate", "register"}}

PEAK_MB = {
    "ingest": 287,
    "validate": 421,
    "preprocess": 122,
    "train": 1684,
    "evaluate": 1306,
    "register": 328,
    "promote": 1317,
}
"""Peak memory of the steps of `make run` on 60 phantoms, from its `summary.json`."""


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    path = compile_pipeline(tmp_path_factory.mktemp("compiled") / "training.yaml")
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def compiled(documents):
    return documents[0]


@pytest.fixture(scope="module")
def tasks(documents):
    """Of every task by its display name: the task, its container, and what it asks of Kubernetes."""
    pipeline, platform = documents
    executors = pipeline["deploymentSpec"]["executors"]
    asked = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    found = {}
    for task in pipeline["root"]["dag"]["tasks"].values():
        label = pipeline["components"][task["componentRef"]["name"]]["executorLabel"]
        found[task["taskInfo"]["name"]] = (task, executors[label]["container"], asked[label])
    return found


def gigabytes(quantity: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(Mi|Gi)", quantity).groups()
    return float(number) / (1024 if unit == "Mi" else 1)


def cores(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def test_committed_yaml_is_up_to_date(documents):
    committed = list(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8")))
    assert committed == documents, "run `make compile` and commit the result"


def test_tasks_are_the_steps_of_the_design_by_name(tasks):
    assert set(tasks) == set(STEPS)


def test_every_task_has_requests_and_limits(tasks):
    for name, (_, container, _) in tasks.items():
        resources = container["resources"]
        assert 0 < cores(resources["resourceCpuRequest"]) <= cores(resources["resourceCpuLimit"]), name
        # Less promised than allowed would be evicted when the node runs out.
        assert resources["resourceMemoryRequest"] == resources["resourceMemoryLimit"], name


def test_memory_is_at_least_twice_what_a_run_was_measured_to_need(tasks):
    for name, (_, container, _) in tasks.items():
        if STEPS[name] in PEAK_MB:
            assert gigabytes(container["resources"]["resourceMemoryLimit"]) * 1024 >= 2 * PEAK_MB[STEPS[name]], name


def test_training_asks_for_an_accelerator_and_its_nodes_by_parameters(compiled, tasks):
    declared = compiled["root"]["inputDefinitions"]["parameters"]
    for name, (_, container, asked) in tasks.items():
        accelerator = container["resources"].get("accelerator")
        assert (STEPS[name] == "train") == (accelerator is not None), name
        if accelerator is None:
            assert "tolerations" not in asked and "nodeSelector" not in asked, name
            continue
        given = {
            accelerator["resourceType"]: "accelerator",
            accelerator["resourceCount"]: "accelerator_count",
            asked["tolerations"][0]["tolerationJson"]["componentInputParameter"]: "accelerator_tolerations",
            asked["nodeSelector"]["nodeSelectorJson"]["componentInputParameter"]: "accelerator_node_selector",
        }
        for placeholder, parameter in given.items():
            assert re.search(rf"\b(pipelinechannel--)?{parameter}\b", placeholder), (name, placeholder)
        assert set(given.values()) <= set(declared)


def test_no_side_effect_is_cached_and_pure_steps_are(tasks):
    for name, (task, _, _) in tasks.items():
        assert bool(task["cachingOptions"].get("enableCache")) == (name in PURE), name


def test_what_can_safely_be_done_again_is_with_a_growing_pause(tasks):
    for name, (task, _, _) in tasks.items():
        policy = task.get("retryPolicy")
        assert (policy is not None) == (name in AGAIN), name
        if policy:
            assert policy["maxRetryCount"] >= 1 and policy["backoffDuration"] != "0s" and policy["backoffFactor"] > 1


def test_every_attempt_ends(tasks):
    for name, (_, _, asked) in tasks.items():
        assert int(asked["activeDeadlineSeconds"]) > 0, name


def test_no_task_runs_as_root_and_all_have_a_folder_to_write_to(tasks):
    for name, (_, container, asked) in tasks.items():
        context = asked["securityContext"]
        assert context["runAsNonRoot"] and int(context["runAsUser"]) > 0, name
        assert [mount["mountPath"] for mount in asked["emptyDirMounts"]] == ["/tmp"], name
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert all(environment[variable].startswith("/tmp") for variable in ("HOME", "METSEG_WORKSPACE")), name


def test_labels_say_what_a_pod_is(tasks):
    for name, (_, _, asked) in tasks.items():
        labels = asked["podMetadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "metseg", name
        assert labels["app.kubernetes.io/component"] == STEPS[name], name


def test_credentials_come_from_secrets_and_reach_those_steps_alone_that_need_them(tasks):
    for name, (_, container, asked) in tasks.items():
        secrets = {entry["secretName"] for entry in asked.get("secretAsEnv", [])}
        expected = set() if name in PURE else {"metseg-mlflow-client"}
        assert secrets == expected | ({"metseg-storage"} if name == "ingest" else set()), name
        written = {entry["name"] for entry in container["env"]}
        assert not [variable for variable in written if re.search("KEY|SECRET|PASSWORD|TOKEN", variable)], name


def test_no_task_starts_without_knowing_where_mlflow_is(tasks):
    for name, (_, _, asked) in tasks.items():
        required = [entry for entry in asked["configMapAsEnv"] if not entry.get("optional")]
        variables = {pair["envVar"] for entry in required for pair in entry["keyToEnv"]}
        assert {"MLFLOW_TRACKING_URI", "METSEG_MODEL_SERVER", "METSEG_RECONCILER"} == variables, name


def test_trainings_keep_their_checkpoints_beyond_their_pod(tasks):
    for name, (_, container, asked) in tasks.items():
        mounts = [mount["mountPath"] for mount in asked.get("pvcMount", [])]
        assert mounts == (["/state"] if STEPS[name] == "train" else []), name
        if mounts:
            assert {"name": "METSEG_STATE", "value": "/state/trainings"} in container["env"]


def test_no_task_installs_or_fetches_anything_at_start(tasks):
    for name, (_, container, _) in tasks.items():
        command = " ".join(container["command"]) + " ".join(container.get("args", []))
        assert not re.search(r"pip3? +install|pip_install|apt-get|curl |wget |git clone|https?://", command), name


def test_nothing_is_read_before_the_parameters_are_checked(compiled):
    tasks = compiled["root"]["dag"]["tasks"]
    assert "dependentTasks" not in tasks["check"]

    def before(task: str) -> set[str]:
        direct = set(tasks[task].get("dependentTasks", []))
        return direct.union(*(before(one) for one in direct)) if direct else set()

    assert all("check" in before(task) for task in tasks if task != "check")


def test_every_step_with_something_to_show_shows_it(compiled):
    shown = {}
    for component in compiled["components"].values():
        artifacts = component.get("outputDefinitions", {}).get("artifacts", {})
        shown[component["executorLabel"]] = {fields["artifactType"]["schemaTitle"] for fields in artifacts.values()}
    pages = {"system.HTML", "system.Markdown", "system.ClassificationMetrics"}
    for label, kinds in shown.items():
        assert label == "exec-check" or kinds & pages, label


def test_every_parameter_is_described(compiled):
    for name, parameter in compiled["root"]["inputDefinitions"]["parameters"].items():
        assert parameter.get("description"), name
        assert parameter.get("defaultValue") is not None, name
