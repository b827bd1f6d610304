"""The compiled files hold nothing that Kubeflow Pipelines 2.16, the oldest that is promised, does not know.

`fixtures/messages-2.16.0.json` has the messages of kfp-pipeline-spec 2.16.0 and kfp-kubernetes 2.16.0: the fields of
each by their JSON name, with their kinds.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compiling import NETWORKS

MESSAGES = json.loads((Path(__file__).parent / "fixtures" / "messages-2.16.0.json").read_text(encoding="utf-8"))
HELD_AS_STRUCT = {
    ("PipelineSpec", "deploymentSpec"): "PipelineDeploymentConfig",
    ("PlatformDeploymentConfig", "executors"): "map of KubernetesExecutorConfig",
}
"""What a message keeps as a free object, and the backend reads as that message."""
SCALARS = {
    "string": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) or re.fullmatch(r"-?\d+", str(value)),
    "number": lambda value: isinstance(value, int | float),
    "google.protobuf.Duration": lambda value: re.fullmatch(r"\d+(\.\d+)?s", str(value)),
    "google.protobuf.Struct": lambda value: isinstance(value, dict),
    "google.protobuf.Value": lambda value: True,
}


def unknown(value: Any, kind: str, place: str) -> Iterator[str]:
    """Places of what a message of that kind does not take."""
    if kind.startswith("map of "):
        for key, inner in value.items():
            yield from unknown(inner, kind.removeprefix("map of "), f"{place}.{key}")
    elif kind.startswith("list of "):
        for number, inner in enumerate(value):
            yield from unknown(inner, kind.removeprefix("list of "), f"{place}[{number}]")
    elif kind.startswith("enum "):
        if value not in kind.split()[1:]:
            yield f"{place}: {value}"
    elif kind in SCALARS:
        if not SCALARS[kind](value):
            yield f"{place}: {value!r} is no {kind}"
    else:
        for name, inner in value.items():
            if name not in MESSAGES[kind]:
                yield f"{place}.{name}"
            else:
                yield from unknown(inner, HELD_AS_STRUCT.get((kind, name), MESSAGES[kind][name]), f"{place}.{name}")


def in_file(documents: list[Any]) -> list[str]:
    pipeline, platform = documents
    return [*unknown(pipeline, "PipelineSpec", "pipeline"), *unknown(platform, "PlatformSpec", "platform")]


def read(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_the_messages_of_2_16_have_every_field_of_the_compiled_file(path):
    assert in_file(read(path)) == []


def test_what_2_16_does_not_have_is_found():
    documents = read(next(iter(NETWORKS)))
    assert in_file(documents) == []
    pipeline, platform = copy.deepcopy(documents)
    pipeline["root"]["dag"]["tasks"]["check"]["retryPolicy"] = {"maxRetryCount": 1, "retryOn": "ERROR"}
    pipeline["deploymentSpec"]["executors"]["exec-check"]["container"]["priority"] = 1
    pipeline["components"]["comp-check"]["outputDefinitions"]["parameters"]["gpu_type"]["parameterType"] = "DATE"
    platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-check"]["hostUsers"] = False
    places = in_file([pipeline, platform])
    assert len(places) == 4
    for name in ("retryPolicy.retryOn", "container.priority", "parameterType: DATE", "exec-check.hostUsers"):
        assert any(place.endswith(name) for place in places), name
