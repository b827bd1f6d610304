"""The committed YAML is what the pipeline's code compiles to, and asks for what every task needs."""

from __future__ import annotations

import re

import pytest
import yaml

from components.configuration.pod_requests import checked_resources
from components.configuration.setting_names import FIELDS, OPTIONS
from components.configuration.settings import Configuration
from metseg.training.configuration import ARCHITECTURES
from pipelines.compiling import NETWORKS, WITH_BASELINE, compile_pipeline
from pipelines.placement import NEEDS
from tests.pipelines.argo_size import Compiled
from tests.pipelines.requested import PLACEHOLDER, Requested, requested

STEPS = {"evaluate champion": "evaluate"}
"""Tasks that are not called like their step."""
PURE = {"check", "preprocess"}
"""What writes nowhere but to its outputs; all else opens runs in MLflow, writes to them, or moves aliases."""
AGAIN = {"ingest", "preprocess", "train", "evaluate", "register"}

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
def compiled(tmp_path_factory) -> Compiled:
    folder = tmp_path_factory.mktemp("compiled")
    return Compiled(compile_pipeline(folder / "training.yaml", ARCHITECTURES))


@pytest.fixture(scope="module")
def tasks(compiled):
    """Every task with an executor, with its step."""
    found = [
        (task, STEPS.get(task.task["taskInfo"]["name"], task.task["taskInfo"]["name"])) for task in compiled.tasks()
    ]
    assert len(found) == 13
    return found


def megabytes(quantity: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(Mi|Gi)", quantity).groups()
    return float(number) * (1024 if unit == "Gi" else 1)


@pytest.mark.parametrize("committed", NETWORKS, ids=lambda path: path.stem)
def test_committed_yaml_is_up_to_date(committed, tmp_path):
    anew = compile_pipeline(tmp_path / "training.yaml", NETWORKS[committed])
    documents = [list(yaml.safe_load_all(path.read_text(encoding="utf-8"))) for path in (committed, anew)]
    assert documents[0] == documents[1], "run `make compile` and commit the result"


def test_every_network_has_a_nested_pipeline_that_trains_and_scores_it(compiled):
    nested = {task["taskInfo"]["name"]: component for _, task, component in compiled.graphs()}
    assert set(nested) == {"data", *ARCHITECTURES}
    for network in ARCHITECTURES:
        shown = {task["taskInfo"]["name"] for task in nested[network]["dag"]["tasks"].values()}
        assert shown == {"train", "evaluate"}
    assert set(nested["data"]["dag"]["tasks"]) == {"ingest", "validate", "preprocess"}


@pytest.mark.parametrize("committed", NETWORKS, ids=lambda path: path.stem)
def test_no_two_tasks_have_the_same_name(committed):
    """Kubeflow's UI keeps artifacts by the names of task and artifact: one of two alike shows the other's pages."""
    compiled = Compiled(committed)
    graphs = [compiled.root, *(component for _, _, component in compiled.graphs())]
    names = [name for component in graphs for name in component["dag"]["tasks"]]
    assert len(names) > 10 and sorted(set(names)) == sorted(names)


def test_the_steps_are_those_of_the_design(tasks):
    assert {step for _, step in tasks} == set(NEEDS)


# What the backend does with a resource: `GetStringValue()` of the value, and nothing where that is empty.


def test_no_resource_is_taken_from_anything_but_a_text(compiled, tasks):
    """A number gives an empty text there, and the resource is dropped without an error."""
    checked = 0
    kinds = {name: fields["parameterType"] for name, fields in compiled.root["inputDefinitions"]["parameters"].items()}

    def kind_of(given: dict, graph: dict, declared: dict) -> str:
        """Kind of an input of a task, followed up to what declares it."""
        if "taskOutputParameter" in given:
            output = given["taskOutputParameter"]
            producer = compiled.components[graph[output["producerTask"]]["componentRef"]["name"]]
            return producer["outputDefinitions"]["parameters"][output["outputParameterKey"]]["parameterType"]
        return declared[given["componentInputParameter"]]

    graphs = [(compiled.root["dag"]["tasks"], kinds)]
    for _, _, component in compiled.graphs():
        declared = component["inputDefinitions"]["parameters"]
        graphs.append((component["dag"]["tasks"], {name: fields["parameterType"] for name, fields in declared.items()}))
    for graph, declared in graphs:
        for task in graph.values():
            component = compiled.components[task["componentRef"]["name"]]
            if "dag" in component:
                continue
            resources = compiled.executors[component["executorLabel"]]["container"]["resources"]
            for text in re.findall(r"\{\{.*?\}\}", str(resources)):
                name = PLACEHOLDER.fullmatch(text.replace("\\'", "'"))[1]
                assert kind_of(task["inputs"]["parameters"][name], graph, declared) == "STRING", (task, name)
                checked += 1
    # CPU and memory of all but check, accelerators of three networks' two steps and of the champion's evaluation.
    assert checked == 12 * 2 + 7 * 2


def test_the_arithmetic_of_placeholders_finds_the_numbers_of_the_pipeline_that_never_got_a_gpu():
    """The pipeline of 92ef0e7 asks by a parameter of the kind NUMBER_INTEGER: such a test would have found it."""
    from tests.pipelines.test_run_size import BEFORE

    before = Compiled(BEFORE)
    declared = before.root["inputDefinitions"]["parameters"]
    counts = [
        PLACEHOLDER.fullmatch(task.container["resources"]["accelerator"]["resourceCount"])[1]
        for task in before.tasks()
        if "accelerator" in task.container["resources"]
    ]
    names = {name.removeprefix("pipelinechannel--") for name in counts}
    assert {declared[name]["parameterType"] for name in names} == {"NUMBER_INTEGER"}


def test_every_resource_that_tasks_take_is_one_that_check_or_ingest_gives_out_as_text(compiled):
    given = checked_resources(Configuration.of({"data_reference": "s3://scans/a"}))
    declared = compiled.components["comp-check"]["outputDefinitions"]["parameters"]
    assert list(given) == [name for name in given if name in declared] and set(given) == set(declared)
    for name, value in given.items():
        kind = name.rpartition("_")[2]
        expected = {"tolerations": ("LIST", list), "selector": ("STRUCT", dict)}.get(kind, ("STRING", str))
        assert (declared[name]["parameterType"], type(value)) == expected, name


def test_every_task_requests_cpu_and_memory(tasks):
    for task, step in tasks:
        resources = task.container["resources"]
        assert resources["resourceCpuRequest"] and resources["resourceMemoryLimit"], step
        # Where a limit stands alone, Kubernetes takes it as the request: nothing is promised less than it may use.
        assert "resourceMemoryRequest" not in resources and "resourceCpuLimit" not in resources, step


def test_memory_is_at_least_twice_what_a_run_was_measured_to_need():
    pods = Configuration.of({"data_reference": "s3://scans/a"}).pod
    for step, peak in PEAK_MB.items():
        assert megabytes(getattr(pods, f"{step}_memory")) >= 2 * peak, step


def test_trainings_and_evaluations_go_where_accelerators_are(tasks):
    for task, step in tasks:
        asks = step in ("train", "evaluate")
        assert ("accelerator" in task.container["resources"]) == asks, step
        assert ("tolerations" in task.kubernetes) == asks and ("nodeSelector" in task.kubernetes) == asks, step


def gpu_run(**given) -> Configuration:
    reference = {"data_reference": "s3://scans/a", "train_architectures": "nested_unet"}
    return Configuration.of({**reference, "gpu_node_selector": {"pool": "gpu"}, **given})


def test_only_pods_that_ask_for_accelerators_are_bound_to_their_nodes(compiled):
    """A pod that asks for none would start a node of the pool for nothing, or wait for one that is full."""
    tolerated = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    pods = requested(compiled, gpu_run(), champion=True)
    training = Requested("2", "16Gi", "1", tolerated, {"pool": "gpu"})
    assert pods["nested_unet/train"] == training
    for name, pod in pods.items():
        if name != "nested_unet/train":
            assert (pod.gpu, pod.tolerations, pod.selector) == ("0", [], {}), name
    pods = requested(compiled, gpu_run(pod_evaluate_gpu_count=1), champion=True)
    evaluation = Requested("2", "8Gi", "1", tolerated, {"pool": "gpu"})
    assert pods["nested_unet/evaluate"] == pods["evaluate champion"] == evaluation
    assert pods["nested_unet/train"] == training


def test_tasks_that_do_nothing_ask_for_little_and_run_anywhere(compiled):
    pods = requested(compiled, gpu_run(pod_evaluate_gpu_count=1), champion=False)
    idle = Requested("100m", "256Mi", "0", [], {})
    for name in ("attention_unet/train", "attention_unet/evaluate", "unet/train", "unet/evaluate", "evaluate champion"):
        assert pods[name] == idle, name


def test_no_task_has_a_copy_of_what_another_has(compiled):
    """Argo keeps each in its arguments, and the SDK writes what is equal once for every network."""
    pods = [(compiled.executors[label], compiled.kubernetes[label]) for label in compiled.executors]
    for written in (list(compiled.components.values()), pods):
        assert not [one for place, one in enumerate(written) if one in written[:place]]
    assert set(compiled.executors) == set(compiled.kubernetes)
    used = {component["executorLabel"] for component in compiled.components.values() if "executorLabel" in component}
    assert used == set(compiled.executors)


def test_no_side_effect_is_cached_and_pure_steps_are(tasks):
    for task, step in tasks:
        assert bool(task.task["cachingOptions"].get("enableCache")) == (step in PURE), step


def test_what_can_be_done_again_is_with_a_growing_pause(tasks):
    for task, step in tasks:
        policy = task.task.get("retryPolicy")
        assert (policy is not None) == (step in AGAIN), step
        if policy:
            assert policy["maxRetryCount"] >= 1 and policy["backoffDuration"] == "30s" and policy["backoffFactor"] == 2


def test_the_limit_of_all_attempts_covers_them_and_their_pauses(tasks):
    """Argo counts it from the start of the first attempt, tries nothing after it, and ends an attempt at it."""
    for task, step in tasks:
        if (policy := task.task.get("retryPolicy")) is None:
            continue
        attempts = (policy["maxRetryCount"] + 1) * int(task.kubernetes["activeDeadlineSeconds"])
        pauses = sum(30 * 2**number for number in range(policy["maxRetryCount"]))
        assert int(policy["backoffMaxDuration"].removesuffix("s")) >= attempts + pauses, step


def test_every_attempt_ends(tasks):
    for task, step in tasks:
        assert int(task.kubernetes["activeDeadlineSeconds"]) > 0, step


def test_no_task_runs_as_root_and_all_have_a_folder_of_bounded_size_to_write_to(tasks):
    for task, step in tasks:
        # Which user is the image's to say: OpenShift gives each namespace users of its own.
        assert task.kubernetes["securityContext"] == {"runAsNonRoot": True}, step
        (mount,) = task.kubernetes["emptyDirMounts"]
        assert mount["mountPath"] == "/tmp" and mount["sizeLimit"].endswith("Gi"), step
        told = [entry["value"] for entry in task.container.get("env", []) if entry["name"] == "METSEG_DISK_GB"]
        # It alone puts data there: artifacts lie on volumes of Kubeflow's launcher.
        assert told == ([mount["sizeLimit"].removesuffix("Gi")] if step == "ingest" else []), step


def test_labels_say_what_a_pod_is(tasks):
    for task, step in tasks:
        labels = task.kubernetes["podMetadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "metseg-pipeline", step
        assert labels["app.kubernetes.io/component"] == step


def test_credentials_come_from_secrets_and_reach_those_steps_alone_that_need_them(tasks):
    data = {"metseg-storage", "metseg-pseudonyms", "metseg-git"}
    for task, step in tasks:
        secrets = {entry["secretName"] for entry in task.kubernetes.get("secretAsVolume", [])}
        assert secrets == (set() if step in PURE else {"metseg-mlflow-client"}) | (data if step == "ingest" else set())
        maps = {entry["configMapName"] for entry in task.kubernetes.get("configMapAsVolume", [])}
        network = {"metseg-ca", "metseg-proxy"} if step == "ingest" else set()
        assert maps == (set() if step == "check" else {"metseg-settings"} | network), step
        assert "secretAsEnv" not in task.kubernetes and "configMapAsEnv" not in task.kubernetes, step


def test_no_variable_steers_kubeflows_launcher_or_meets_its_mlflow_plugin(tasks):
    """The launcher has the container's variables; the plugin adds MLFLOW_* of its own, and one twice is refused."""
    for task, step in tasks:
        written = {entry["name"] for entry in task.container.get("env", [])}
        assert all(name.startswith("METSEG_") for name in written), (step, written)


def test_trainings_keep_their_checkpoints_beyond_their_pod(tasks):
    for task, step in tasks:
        mounts = [mount["mountPath"] for mount in task.kubernetes.get("pvcMount", [])]
        assert mounts == (["/state"] if step == "train" else []), step
        if mounts:
            assert {"name": "METSEG_STATE", "value": "/state/trainings"} in task.container["env"]


def test_no_task_installs_or_fetches_anything_at_start(tasks):
    for task, step in tasks:
        command = " ".join([*task.container["command"], *task.container.get("args", [])])
        assert not re.search(r"pip3? +install|pip_install|apt-get|curl |wget |git clone|https?://", command), step


def test_every_task_calls_a_component_of_the_image(tasks):
    from components.__main__ import function_of

    for task, step in tasks:
        program, flag, module, name = task.container["command"]
        assert (program, flag, module) == ("python3", "-m", "components"), step
        assert function_of(name).__module__ == f"components.{step}.component"
        assert task.container["args"] == ["{{$}}"]


def test_nothing_is_read_before_the_settings_are_checked(compiled):
    tasks = compiled.root["dag"]["tasks"]
    assert "dependentTasks" not in tasks["check"]

    def before(task: str) -> set[str]:
        direct = set(tasks[task].get("dependentTasks", []))
        return direct.union(*(before(one) for one in direct)) if direct else set()

    assert all("check" in before(task) for task in tasks if task != "check")
    first = compiled.components["comp-data"]["dag"]["tasks"]["ingest"]["inputs"]["artifacts"]
    assert first == {"configuration": {"componentInputArtifact": "configuration"}}


def test_no_task_after_check_takes_a_setting_but_what_its_pod_requests(tasks):
    for task, step in tasks:
        inputs = set(task.task.get("inputs", {}).get("parameters", {}))
        if step != "check":
            assert inputs <= {"cpu", "memory", "gpu", "gpu_type", "architecture"}, (step, inputs)


def test_every_step_with_something_to_show_shows_it_on_at_most_one_page(tasks):
    pages = {"system.HTML", "system.Markdown"}
    for task, step in tasks:
        artifacts = task.component.get("outputDefinitions", {}).get("artifacts", {})
        shown = [fields["artifactType"]["schemaTitle"] for fields in artifacts.values()]
        assert sum(kind in pages for kind in shown) <= 1, step
        if task.name not in ("check", "evaluate-champion"):
            assert pages & set(shown) or "system.ClassificationMetrics" in shown, step


def test_the_form_has_at_most_20_fields_and_asks_for_the_data_alone(compiled):
    form = compiled.root["inputDefinitions"]["parameters"]
    assert set(form) == {*FIELDS, *OPTIONS} and len(form) <= 20
    assert [name for name, field in form.items() if not field.get("isOptional")] == ["data_reference"]
    assert all(re.match(r"(data|train|gate|gpu|pod|model|run)_", name) for name in form)


def test_the_default_in_the_form_is_the_settings_own(compiled):
    values = Configuration.of({"data_reference": "s3://scans/a"}).values()
    for name, field in compiled.root["inputDefinitions"]["parameters"].items():
        if name in FIELDS and name != "data_reference":
            assert field["defaultValue"] == values[name], name


def test_check_knows_which_networks_the_pipeline_has():
    for path, networks in NETWORKS.items():
        (task,) = (task for task in Compiled(path).tasks() if task.name == "check")
        given = task.task["inputs"]["parameters"]["networks"]
        assert given == {"runtimeValue": {"constant": ",".join(networks)}}
    assert NETWORKS[WITH_BASELINE] == ARCHITECTURES
