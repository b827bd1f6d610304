"""What every task asks of the cluster it runs on; `kfp.local` reads none of it.

The names of the ConfigMaps, the secrets and the claim are those that `infra/kubernetes` makes for the namespace of the
runs. They come in as files, not as variables: Argo keeps a task's pod six times over, with every variable in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from metseg.dataset.disk_space import LIMIT as DISK_LIMIT
from metseg.environment import MOUNTED

SETTINGS_MAP, CERTIFICATES_MAP, PROXY_MAP = "metseg-settings", "metseg-ca", "metseg-proxy"
MLFLOW_SECRET, STORAGE_SECRET = "metseg-mlflow-client", "metseg-storage"
PSEUDONYMS_SECRET, GIT_SECRET = "metseg-pseudonyms", "metseg-git"
STATE_CLAIM, STATE_FOLDER = "metseg-state", "/state"
RUN_LABEL = "metadata.labels['pipeline/runid']"
"""Where Kubeflow writes the run's id on each of its pods."""
WRITABLE, WRITABLE_GB = "/tmp", 100
"""What a pod may write to, and how many GiB: the backend takes no placeholder there, so it is no setting of a run."""

MINUTE, HOUR, DAY = 60, 3600, 86400
PAUSE, PAUSE_FACTOR = 30, 2
"""Seconds before the second attempt, and how much longer each later pause is than the one before."""


@dataclass(frozen=True)
class Needs:
    """What a step asks for, beside CPU and memory, which are settings of the run.

    Attributes:
        seconds: of one attempt, from the start of its pod, after which it is ended.
        retries: attempts after the first, where doing it again can help.
        mlflow: whether it speaks to MLflow, and so is given a name and password for it.
        data: whether it reads data from where they are kept, and so is given keys for that.
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
    # What is judged unfit stays so: a retry would only hide the message for a while.
    "validate": Needs(2 * HOUR),
    "preprocess": Needs(12 * HOUR, retries=2, mlflow=False),
    # Goes on from its last epoch.
    "train": Needs(7 * DAY, retries=3),
    "evaluate": Needs(DAY, retries=2),
    # Comes to the same verdict and the same version.
    "register": Needs(HOUR, retries=2),
    # Moves what is served: a person looks before it is tried again.
    "promote": Needs(2 * HOUR),
}
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
    """Give a task everything that holds for its step.

    Args:
        task: the task.
        step: the folder in `components`.
        name: what the Kubeflow UI calls the task; the step's name where none is given.
        cpu: CPU cores that it requests, a text that check gives out.
        memory: memory, likewise: the limit, and so the request too, so that a step is never evicted for what it was
            promised.
        cached: whether the task is a function of its inputs and does nothing besides.
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
    # Which user is the image's to say, and OpenShift's.
    kubernetes.set_security_context(task, run_as_non_root=True)
    kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path=WRITABLE, size_limit=f"{WRITABLE_GB}Gi")
    for key, value in (("name", "metseg-pipeline"), ("component", step)):
        kubernetes.add_pod_label(task, f"app.kubernetes.io/{key}", value)
    if step != "check":
        _mount(task, needs)
    return task


def _mount(task: dsl.PipelineTask, needs: Needs) -> None:
    """Bring in what the namespace of the runs says; nothing of it is in the pipeline.

    All are optional: a cluster may give its pods a role instead of keys, and a step says what it lacks.
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
        # By this it refuses data that would not fit; a pod that passes the limit is removed without a word.
        task.set_env_variable(DISK_LIMIT, str(WRITABLE_GB))
        # By this it finds the run that an earlier attempt opened in MLflow.
        kubernetes.use_field_path_as_env(task, "METSEG_KUBEFLOW_RUN", RUN_LABEL)


def on_accelerators(task: dsl.PipelineTask, kind: Any, count: Any, tolerations: Any, node_selector: Any) -> None:
    """Have a task placed where its accelerators are; kind and count are texts, which is what the backend reads."""
    task.set_accelerator_type(kind).set_accelerator_limit(count)
    kubernetes.add_toleration_json(task, tolerations)
    kubernetes.add_node_selector_json(task, node_selector)


def keep_state(task: dsl.PipelineTask) -> None:
    """Let a training find its checkpoints again after its pod is gone."""
    kubernetes.mount_pvc(task, pvc_name=STATE_CLAIM, mount_path=STATE_FOLDER)
    task.set_env_variable("METSEG_STATE", f"{STATE_FOLDER}/trainings")
