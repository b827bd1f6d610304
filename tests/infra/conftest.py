"""Objects of each overlay, and the secrets that the script makes."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.infra.clusters import FakeCluster, parsed
from tests.infra.rendering import OVERLAYS, overlay

KUBERNETES_VERSION = "1.30"


@pytest.fixture(params=OVERLAYS)
def objects(request) -> list[dict[str, Any]]:
    return overlay(request.param)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> dict[tuple[str, str], set[str]]:
    """Keys of each secret that `secrets.sh` makes, by namespace and name."""
    text = FakeCluster.made(tmp_path_factory.mktemp("secrets"), "kubeflow").apply("kubeflow")
    for document in yaml.safe_load_all(text):
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
    return {name: set(data) for name, data in parsed(text).items()}
