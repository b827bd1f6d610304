"""What runs at once with `--profile local` on a laptop of 16 GiB, beside the services and Kubeflow itself."""

from __future__ import annotations

import pytest

from components.configuration.profiles import profile
from components.configuration.settings import Configuration
from pipelines.compiling import COMPILED
from tests.infra.rendering import overlay
from tests.infra.test_manifests import quantity, requested
from tests.pipelines.argo_size import Compiled
from tests.pipelines.requested import requested as requested_by_pods

GIB = 2**30
LAPTOP = 15.3 * GIB
"""What Linux has of 16 GiB when it has started."""
KUBEFLOW = {
    "ml-pipeline": "500Mi",
    "ml-pipeline-persistenceagent": "500Mi",
    "ml-pipeline-scheduledworkflow": "16Mi",
    "ml-pipeline-ui": "70Mi",
    "ml-pipeline-visualizationserver": "500Mi",
    "metadata-grpc-deployment": "16Mi",
    "metadata-writer": "16Mi",
    "mysql": "800Mi",
    "seaweedfs": "256Mi",
    "workflow-controller": "500Mi",
}
"""Requests of Kubeflow Pipelines 2.17.0 by its manifests (manifests/kustomize/env/platform-agnostic)."""
KUBERNETES = {"coredns": "140Mi", "etcd": "100Mi", "kindnet": "50Mi"}
"""Requests of a node of kind."""
DRIVERS = 2 * quantity("64Mi")
"""Of two drivers of Kubeflow, which start what comes next."""


@pytest.fixture(scope="module")
def free() -> float:
    """Memory that services, Kubeflow and Kubernetes leave to the pods of a run."""
    others = sum(quantity(text) for text in (*KUBEFLOW.values(), *KUBERNETES.values()))
    return LAPTOP - requested(overlay("local"), "memory") - others - DRIVERS


@pytest.fixture(scope="module")
def pods() -> dict[str, float]:
    """Memory of each pod of a run of both networks where there is a champion."""
    configuration = Configuration.of({"data_reference": "s3://scans/heads", **profile("local")})
    asked = requested_by_pods(Compiled(COMPILED), configuration, champion=True)
    assert all(pod.gpu == "0" and not pod.selector for pod in asked.values())
    return {name: quantity(pod.memory) for name, pod in asked.items()}


def test_both_trainings_run_at_once(free, pods):
    assert pods["nested_unet/train"] + pods["attention_unet/train"] <= free


def test_the_champion_is_scored_beside_one_training_or_one_evaluation(free, pods):
    for other in ("nested_unet/train", "nested_unet/evaluate"):
        assert pods["evaluate champion"] + pods[other] <= free


def test_every_pod_fits_alone(free, pods):
    assert len(pods) == 11 and max(pods.values()) <= free
