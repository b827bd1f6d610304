"""What every task asks of the cluster it runs on; `kfp.local` reads none of it.

The names of the ConfigMap, the secrets and the claim are those that `infra/kubernetes` makes for the namespace of the
runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

SETTINGS_MAP = "metseg-settings"
MLFLOW_SECRET = "metseg-mlflow-client"
STORAGE_SECRET = "metseg-storage"
STATE_CLAIM = "metseg-state"
STATE_FOLDER = "/state"
WRITABLE = "/tmp"
USER = 1000

REQUIRED = ("MLFLOW_TRACKING_URI", "METSEG_MODEL_SERVER", "METSEG_RECONCILER")
"""Without these a step would fall back to files of its own pod: a pod that lacks one does not start, and says so."""
OPTIONAL = (
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "METSEG_KUBEFLOW_URL",
    "METSEG_MLFLOW_URL",
)
MLFLOW_CREDENTIALS = {"username": "MLFLOW_TRACKING_USERNAME", "password": "MLFLOW_TRACKING_PASSWORD"}
STORAGE_CREDENTIALS = {"access-key-id": "AWS_ACCESS_KEY_ID", "secret-access-key": "AWS_SECRET_ACCESS_KEY"}
RUN_LABEL = "metadata.labels['pipeline/runid']"
"""Where Kubeflow writes the run's id on each of its pods."""

MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclass(frozen=True)
class Needs:
    """What a step asks for.

    Attributes:
        cpu: cores that it is promised.
        cpu_limit: cores that it may use where they are idle.
        memory: promised and the most it gets, so that a step is never evicted for what it was promised.
        seconds: of one attempt, from the start of its pod, after which it is ended.
        retries: attempts after the first, where doing it again does no harm and can help.
        mlflow: whether it speaks to MLflow, and so is given a name and password for it.
        storage: whether it reads data from storage, and so is given a key for it.
    """

    cpu: str
    cpu_limit: str
    memory: str
    seconds: int
    retries: int = 0
    mlflow: bool = True
    storage: bool = False


NEEDS = {
    "check": Needs("250m", "1", "1Gi", 10 * MINUTE, mlflow=False),
    "ingest": Needs("1", "2", "4Gi", 12 * HOUR, retries=2, storage=True),
    # What is judged unfit stays so: a retry would only hide the message for a while.
    "validate": Needs("1", "2", "4Gi", 2 * HOUR),
    "preprocess": Needs("2", "4", "4Gi", 12 * HOUR, retries=2, mlflow=False),
    # Goes on from its last epoch.
    "train": Needs("2", "8", "16Gi", 7 * DAY, retries=3),
    "evaluate": Needs("2", "4", "8Gi", DAY, retries=2),
    # Comes to the same verdict and the same version.
    "register": Needs("500m", "1", "2Gi", HOUR, retries=2),
    # Moves what is served: a person looks before it is tried again.
    "promote": Needs("1", "2", "8Gi", 2 * HOUR),
}


def place(task: dsl.PipelineTask, step: str, name: str = "", cached: bool = False) -> dsl.PipelineTask:
    """Give a task everything that holds for its step.

    Args:
        task: the task.
        step: the folder in `components`.
        name: what the Kubeflow UI calls the task; the step's name where none is given.
        cached: whether the task is a function of its inputs and does nothing besides.
    """
    needs = NEEDS[step]
    task.set_cpu_request(needs.cpu).set_cpu_limit(needs.cpu_limit)
    task.set_memory_request(needs.memory).set_memory_limit(needs.memory)
    task.set_display_name(name or step).set_caching_options(cached)
    kubernetes.set_timeout(task, needs.seconds)
    if needs.retries:
        task.set_retry(needs.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=0, run_as_non_root=True)
    kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path=WRITABLE)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    for key, value in (("part-of", "metseg"), ("name", "metseg-pipeline"), ("component", step)):
        kubernetes.add_pod_label(task, f"app.kubernetes.io/{key}", value)
    _environment(task, needs)
    return task


def _environment(task: dsl.PipelineTask, needs: Needs) -> None:
    """Where things are, from the ConfigMap and the secrets of the namespace; nothing of it is in the pipeline."""
    for name, value in (("HOME", WRITABLE), ("METSEG_WORKSPACE", f"{WRITABLE}/metseg")):
        task.set_env_variable(name, value)
    kubernetes.use_config_map_as_env(task, SETTINGS_MAP, {name: name for name in REQUIRED})
    kubernetes.use_config_map_as_env(task, SETTINGS_MAP, {name: name for name in OPTIONAL}, optional=True)
    # Optional: a cluster may give its pods a role instead (IRSA), and an MLflow of its own may ask for no name.
    if needs.mlflow:
        kubernetes.use_secret_as_env(task, MLFLOW_SECRET, MLFLOW_CREDENTIALS, optional=True)
    if needs.storage:
        kubernetes.use_secret_as_env(task, STORAGE_SECRET, STORAGE_CREDENTIALS, optional=True)
    kubernetes.use_field_path_as_env(task, "METSEG_KUBEFLOW_RUN", RUN_LABEL)


def on_accelerators(task: dsl.PipelineTask, kind: Any, count: Any, tolerations: Any, node_selector: Any) -> None:
    """Have a training placed where its accelerators are, each of the four a pipeline parameter."""
    task.set_accelerator_type(kind).set_accelerator_limit(count)
    kubernetes.add_toleration_json(task, tolerations)
    kubernetes.add_node_selector_json(task, node_selector)


def keep_state(task: dsl.PipelineTask) -> None:
    """Let a training find its checkpoints again after its pod is gone."""
    kubernetes.mount_pvc(task, pvc_name=STATE_CLAIM, mount_path=STATE_FOLDER)
    task.set_env_variable("METSEG_STATE", f"{STATE_FOLDER}/trainings")
