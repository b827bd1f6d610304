"""TF Serving's REST API, called with Python's own HTTP client."""

from __future__ import annotations

import gzip
import http.client
import json
import math
from typing import Any

import numpy as np
import pytest

from tests.serving.conformance.model import MODEL
from tests.serving.conformance.rest_rows import ANSWERED, PATH, PREDICT, REFUSED, Answered, Refused

METRICS = "/monitoring/prometheus/metrics"


def http_request(
    address: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send a request: GET without a body, else POST."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def encoded(body: str | None) -> bytes | None:
    return None if body is None else body.encode(errors="surrogateescape")


def comparable(value: Any) -> Any:
    """The value with text for what is no number, and other floats as float32."""
    if isinstance(value, list):
        return [comparable(element) for element in value]
    if isinstance(value, dict):
        return {name: comparable(element) for name, element in value.items()}
    if isinstance(value, float):
        return (
            float(np.float32(value))
            if math.isfinite(value)
            else {"nan": "NaN", "inf": "Infinity"}.get(str(value), "-Infinity")
        )
    return value


@pytest.mark.parametrize("row", ANSWERED, ids=[row.name for row in ANSWERED])
def test_response_is_that_of_tf_serving(rest: str, row: Answered) -> None:
    status, headers, body = http_request(rest, row.path, encoded(row.body))
    assert (status, headers["content-type"]) == (200, "application/json")
    assert comparable(json.loads(body)) == comparable(row.response)


@pytest.mark.parametrize("row", REFUSED, ids=[row.name for row in REFUSED])
def test_error_has_the_status_of_tf_serving_and_names_the_cause(rest: str, row: Refused) -> None:
    status, headers, body = http_request(rest, row.path, encoded(row.body))
    assert (status, headers["content-type"]) == (row.status, "application/json")
    assert row.error in json.loads(body)["error"]


def test_metadata_is_that_of_the_signatures(rest: str) -> None:
    status, _, body = http_request(rest, f"{PATH}/versions/1/metadata")
    assert status == 200
    document = json.loads(body)
    assert document["model_spec"] == {"name": MODEL, "signature_name": "", "version": "1"}
    signatures = document["metadata"]["signature_def"]["signature_def"]
    image = signatures["serving_default"]["inputs"]["image"]
    assert image["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in image["tensor_shape"]["dim"]] == ["-1"] * 5
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"


def test_a_compressed_request_is_read(rest: str) -> None:
    body = gzip.compress(json.dumps({"inputs": np.ones((1, 2, 3, 4, 1)).tolist()}).encode())
    status, _, response = http_request(rest, PREDICT, body, **{"Content-Encoding": "gzip"})
    assert status == 200
    assert np.array(json.loads(response)["outputs"]["mask"]).shape == (1, 2, 3, 4)


def test_outputs_of_a_random_slice_are_in_order(rest: str) -> None:
    image = np.random.default_rng(3).random((1, 1, 64, 48, 2)).astype(np.float32)
    body = json.dumps({"inputs": image.tolist()}).encode()
    status, _, response = http_request(rest, PREDICT, body)
    assert status == 200
    probability = np.array(json.loads(response)["outputs"]["probability"], np.float32)
    np.testing.assert_allclose(probability, image.mean(axis=-1), rtol=1e-6)


def test_other_methods_are_malformed_requests(rest: str) -> None:
    connection = http.client.HTTPConnection(rest, timeout=30)
    connection.request("DELETE", PATH)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())) == (400, {"error": f"Malformed request: DELETE {PATH}"})
    connection.close()


def test_a_path_outside_the_api_is_not_found(rest: str) -> None:
    assert http_request(rest, "/")[0] == 404


def test_requests_are_counted_for_prometheus(rest: str) -> None:
    def count(page: str) -> int:
        line = f':tensorflow:serving:request_count{{model_name="{MODEL}",status="OK"}} '
        return sum(int(found.removeprefix(line)) for found in page.splitlines() if found.startswith(line))

    before = count(http_request(rest, METRICS)[2].decode())
    assert http_request(rest, PREDICT, b'{"inputs": [[[[[1]]]]]}')[0] == 200
    status, headers, page = http_request(rest, METRICS)
    assert (status, headers["content-type"]) == (200, "text/plain")
    assert count(page.decode()) == before + 1
    names = {line.split("{")[0] for line in page.decode().splitlines() if not line.startswith("#")}
    assert ":tensorflow:serving:request_latency_bucket" in names
    assert ":tensorflow:serving:runtime_latency_count" in names
