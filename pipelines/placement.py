"""Requests of every task to the cluster that runs it; `kfp.local` reads none of them.

The names of the ConfigMaps, the secrets and the claim are those that `infra/kubernetes` makes for the namespace of the
runs. They come in as files, not as variables: Argo keeps a task's pod six times over, with every variable in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from metseg.dataset.data_cache import DISK_LIMIT
from metseg.process_environment import MOUNTED

SETTINGS_MAP, CERTIFICATES_MAP, PROXY_MAP = "metseg-settings", "metseg-ca", "metseg-proxy"
MLFLOW_SECRET, STORAGE_SECRET = "metseg-mlflow-client", "metseg-storage"
PSEUDONYMS_SECRET, GIT_SECRET = "metseg-pseudonyms", "metseg-git"
STATE_CLAIM, STATE_FOLDER = "metseg-state", "/state"
RUN_LABEL = "metadata.labels['pipeline/runid']"
"""Where Kubeflow writes the run's id on each of its pods."""
WRITABLE, WRITABLE_GB = "/tmp", 100
"""Writable folder of a pod and its GiB: the backend takes no placeholder there, so it is no setting of a run."""

MINUTE, HOUR, DAY = 60, 3600, 86400
PAUSE, PAUSE_FACTOR = 30, 2
"""Seconds before the second attempt, and the factor of each later pause."""


@dataclass(frozen=True)
class Needs:
    """Needs of a step other than CPU and memory, which are settings of the run.

    Attributes:
        seconds: limit of one attempt, from the start of its pod.
        retries: attempts after the first, if repeating can help.
        mlflow: whether it calls MLflow, and so gets a login for it.
        data: whether it reads the data's storage, and so gets keys for that.
    """

    seconds: int
    retries: int = 0
    mlflow: bool = True
    data: bool = False

    @property
    def longest(self) -> int:
        """Seconds of all attempts and the pauses between them."""
        pauses: int = PAUSE * (PAUSE_FACTOR**self.retries - 1) // (PAUSE_FACTOR - 1)
        return (self.retries + 1) * self.seconds + pauses


NEEDS = {
    "check": Needs(10 * MINUTE, mlflow=False),
    "ingest": Needs(12 * HOUR, retries=2, data=True),
    # Unfit data stay unfit: a retry would only hide the message for a while.
    "validate": Needs(2 * HOUR),
    "preprocess": Needs(12 * HOUR, retries=2, mlflow=False),
    # Resumes from its last epoch.
    "train": Needs(7 * DAY, retries=3),
    "evaluate": Needs(DAY, retries=2),
    # Comes to the same verdict and the same version.
    "register": Needs(HOUR, retries=2),
    # Moves what is served: not repeated without a look at the cause.
    "promote": Needs(2 * HOUR),
}
REQUESTS = ("cpu", "memory", "gpu", "tolerations", "selector")
"""Outputs of check for each training run, and of the task before an evaluation for that."""
CHECK_CPU, CHECK_MEMORY = "250m", "1Gi"


def place(
    task: dsl.PipelineTask,
    step: str,
    name: str = "",
    *,
    cpu: Any = CHECK_CPU,
    memory: Any = CHECK_MEMORY,
    cached: bool = False,
) -> dsl.PipelineTask:
    """Give a task all requests of its step.

    Args:
        task: the task.
        step: the folder in `components`.
        name: of the task in the Kubeflow UI; that of the step by default.
        cpu: CPU cores that it requests, a text from check.
        memory: its limit and so its request, a text from check: a step is never evicted for memory it requested.
        cached: whether the task is a pure function of its inputs.
    """
    needs = NEEDS[step]
    task.set_cpu_request(cpu).set_memory_limit(memory)
    task.set_display_name(name or step).set_caching_options(cached)
    kubernetes.set_timeout(task, needs.seconds)
    if needs.retries:
        # Argo counts this limit from the start of the first attempt, and ends an attempt that passes it.
        task.set_retry(
            needs.retries,
            backoff_duration=f"{PAUSE}s",
            backoff_factor=float(PAUSE_FACTOR),
            backoff_max_duration=f"{needs.longest}s",
        )
    # The image, or OpenShift, decides the user.
    kubernetes.set_security_context(task, run_as_non_root=True)
    kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path=WRITABLE, size_limit=f"{WRITABLE_GB}Gi")
    for key, value in (("name", "metseg-pipeline"), ("component", step)):
        kubernetes.add_pod_label(task, f"app.kubernetes.io/{key}", value)
    if step != "check":
        _mount(task, needs)
    return task


def _mount(task: dsl.PipelineTask, needs: Needs) -> None:
    """Mount the settings and secrets of the namespace of the runs.

    The pipeline itself holds none of them.
    All are optional: a cluster may give its pods a role instead of keys, and a step reports a missing one.
    """

    def mount(name: str, kind: str, folder: str) -> None:
        use = kubernetes.use_config_map_as_volume if kind == "map" else kubernetes.use_secret_as_volume
        use(task, name, f"{MOUNTED}/{folder}", optional=True)

    mount(SETTINGS_MAP, "map", "settings")
    if needs.mlflow:
        mount(MLFLOW_SECRET, "secret", "mlflow")
    if needs.data:
        mount(STORAGE_SECRET, "secret", "storage")
        mount(PSEUDONYMS_SECRET, "secret", "pseudonyms")
        mount(GIT_SECRET, "secret", "git")
        mount(CERTIFICATES_MAP, "map", "ca")
        mount(PROXY_MAP, "map", "proxy")
        # So it refuses data that would not fit; a pod over the limit is removed without a message.
        task.set_env_variable(DISK_LIMIT, str(WRITABLE_GB))
        # So it finds the run that an earlier attempt opened in MLflow.
        kubernetes.use_field_path_as_env(task, "METSEG_KUBEFLOW_RUN", RUN_LABEL)


def on_accelerators(task: dsl.PipelineTask, kind: Any, count: Any, tolerations: Any, node_selector: Any) -> None:
    """Place a task on nodes with its accelerators.

    Kind and count are texts, as the backend expects.
    """
    task.set_accelerator_type(kind).set_accelerator_limit(count)
    kubernetes.add_toleration_json(task, tolerations)
    kubernetes.add_node_selector_json(task, node_selector)


def place_evaluation(task: dsl.PipelineTask, name: str, gpu_type: Any, outputs: Mapping[str, Any], prefix: str) -> None:
    """Give an evaluation the requests that the task before it computed.

    Args:
        task: the evaluation.
        name: its name in the Kubeflow UI.
        gpu_type: resource name of the accelerators.
        outputs: of the task before it.
        prefix: of the requests among the outputs.
    """
    cpu, memory, gpu, tolerations, selector = (outputs[f"{prefix}_{request}"] for request in REQUESTS)
    place(task, "evaluate", name, cpu=cpu, memory=memory)
    on_accelerators(task, gpu_type, gpu, tolerations, selector)


def keep_state(task: dsl.PipelineTask) -> None:
    """Mount the volume of checkpoints, from which a training run resumes in another pod."""
    kubernetes.mount_pvc(task, pvc_name=STATE_CLAIM, mount_path=STATE_FOLDER)
    task.set_env_variable("METSEG_STATE", f"{STATE_FOLDER}/trainings")
