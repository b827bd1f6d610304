"""Both APIs, called with ovmsclient, which has messages and code of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conformance.conftest import Target
from tests.serving.conformance.model import MODEL

CALLER = Path(__file__).with_name("ovms_caller.py")
MISSING = {
    "grpc": "Signature input alias: image(feed name: serving_default_image:0) not found in request",
    "rest": "Missing named input: image",
}


@pytest.fixture(scope="module", params=["grpc", "rest"])
def responses(request: pytest.FixtureRequest, target: Target) -> tuple[str, dict[str, Any]]:
    address = target.grpc if request.param == "grpc" else target.rest
    if not address:
        pytest.skip(f"no address of the {request.param} API is given")
    command = [sys.executable, str(CALLER), request.param, address, MODEL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


def test_it_reads_the_outputs(responses: tuple[str, dict[str, Any]]) -> None:
    outputs = responses[1]["predict"]
    expected = [(2 * pixel + 0.5) / 24 for pixel in range(12)]
    probability = [value for row in outputs["probability"][0][0] for value in row]
    assert probability == pytest.approx(expected, rel=1e-6)
    assert outputs["mask"] == [[[[0] * 4, [0, 0, 1, 1], [1] * 4]]]


def test_it_reads_the_state_of_a_version(responses: tuple[str, dict[str, Any]]) -> None:
    assert responses[1]["status"] == {"1": {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}


def test_it_reads_the_inputs(responses: tuple[str, dict[str, Any]]) -> None:
    kind, values = responses
    if kind == "grpc":
        assert values["metadata"]["inputs"] == {"image": {"shape": [-1] * 5, "dtype": "DT_FLOAT"}}
    else:  # it looks for OpenVINO's spelling and otherwise hands on what it got
        signatures = values["metadata"]["metadata"]["signature_def"]["signature_def"]
        assert signatures["serving_default"]["inputs"]["image"]["dtype"] == "DT_FLOAT"


def test_it_raises_its_own_errors(responses: tuple[str, dict[str, Any]]) -> None:
    kind, values = responses
    prefix = "Error occurred during handling the request: "
    assert values["unknown model"] == ["ModelNotFoundError", f"{prefix}Servable not found for request: Specific(m, 1)"]
    assert values["unknown version"] == ["ModelNotFoundError", f"{prefix}Could not find version 9 of model {MODEL}"]
    name, text = values["wrong name"]
    assert name == "InvalidInputError" and MISSING[kind] in text
