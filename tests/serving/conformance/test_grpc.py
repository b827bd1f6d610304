"""TF Serving's gRPC API, called with the official stubs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from tests.serving.conformance.conftest import Stubs
from tests.serving.conformance.grpc_refusals import (
    IMAGE,
    REFUSALS,
    Row,
    metadata,
    model,
    predict,
    reload,
    status,
    tensor,
)
from tests.serving.conformance.model import LABELS, MODEL


@pytest.mark.parametrize("row", REFUSALS, ids=[row.name for row in REFUSALS])
def test_refusal_has_the_code_and_text_of_tf_serving(stubs: Stubs, row: Row) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stubs.call(row.call, row.request)
    assert refused.value.code() is row.code
    details = refused.value.details()
    assert details == row.text if row.whole else row.text in details


@pytest.mark.parametrize(
    ("changes", "version"), [({}, 2), ({"version": 1}, 1), ({"label": "stable"}, 1), ({"label": "canary"}, 2)]
)
def test_predict_names_its_version_and_signature(stubs: Stubs, changes: dict[str, Any], version: int) -> None:
    spec = stubs.call("Predict", predict(**changes)).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (MODEL, version, "serving_default")
    described = stubs.call("Predict", predict("describe", inputs={"request": np.zeros(1, np.int32)}, **changes))
    assert f'"exported": {version},'.encode() in tf.make_ndarray(described.outputs["specification"]).item()


def test_predict_returns_all_outputs_in_typed_fields(stubs: Stubs) -> None:
    image = np.arange(24, dtype=np.float32).reshape(1, 1, 3, 4, 2) / 24
    outputs = stubs.call("Predict", predict(inputs={"image": image})).outputs
    assert set(outputs) == {"probability", "mask"}
    expected = [(2 * pixel + 0.5) / 24 for pixel in range(12)]
    assert list(outputs["probability"].float_val) == pytest.approx(expected, rel=1e-6)
    assert outputs["probability"].tensor_content == b""
    assert list(outputs["mask"].int_val) == [0] * 6 + [1] * 6
    assert outputs["mask"].dtype == tf.uint8.as_datatype_enum
    assert [dim.size for dim in outputs["mask"].tensor_shape.dim] == [1, 1, 3, 4]


def test_output_filter_chooses_the_outputs(stubs: Stubs) -> None:
    assert set(stubs.call("Predict", predict(output_filter=["mask"])).outputs) == {"mask"}


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (tensor(tf.float32, [1, 1, 1, 2, 1], float_val=[0.25, 0.5]), [0.25, 0.5]),
        (tensor(tf.float32, [1, 1, 1, 3, 1], float_val=[0.25, 0.5]), [0.25, 0.5, 0.5]),
        (tensor(tf.float32, [1, 1, 1, 2, 1], float_val=[0.75]), [0.75, 0.75]),
        (tensor(tf.float32, [1, 1, 1, 2, 1]), [0.0, 0.0]),
        (tensor(tf.float32, [1, 1, 1, 2, 1], tensor_content=np.float32([0.25, 0.5]).tobytes()), [0.25, 0.5]),
    ],
    ids=["typed field", "short field", "one value", "nothing", "raw bytes"],
)
def test_every_way_to_write_a_tensor_is_read(stubs: Stubs, proto: Any, expected: list[float]) -> None:
    outputs = stubs.call("Predict", predict(inputs={"image": proto})).outputs
    assert list(outputs["probability"].float_val) == expected


def test_an_empty_batch_gives_empty_outputs(stubs: Stubs) -> None:
    outputs = stubs.call("Predict", predict(inputs={"image": np.zeros((0, 1, 2, 2, 2), np.float32)})).outputs
    assert [dim.size for dim in outputs["mask"].tensor_shape.dim] == [0, 1, 2, 2]
    assert not outputs["mask"].int_val


def test_strings_and_numbers_are_echoed(stubs: Stubs) -> None:
    inputs = {"text": np.array([b"\xff\x00", b"a"], object), "number": np.array([1, 2**40], np.int64)}
    outputs = stubs.call("Predict", predict("echo", inputs=inputs)).outputs
    assert list(outputs["text"].string_val) == [b"\xff\x00", b"a"]
    assert list(outputs["number"].int64_val) == [2, 2**40 + 1]


def test_metadata_holds_every_signature_as_it_was_saved(stubs: Stubs) -> None:
    response = stubs.call("GetModelMetadata", metadata("signature_def", name=MODEL))
    assert (response.model_spec.name, response.model_spec.version.value) == (MODEL, 2)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "describe", "add"} <= set(signatures.signature_def)
    image = signatures.signature_def["serving_default"].inputs["image"]
    assert (image.dtype, [dim.size for dim in image.tensor_shape.dim]) == (tf.float32.as_datatype_enum, [-1] * 5)


def test_status_honours_a_version_and_lists_all_for_a_label(stubs: Stubs) -> None:
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    one = stubs.call("GetModelStatus", status(name=MODEL, version={"value": 1})).model_version_status
    assert [(entry.version, entry.state, entry.status.error_code) for entry in one] == [(1, available, 0)]
    for spec in ({}, {"version_label": "stable"}):
        listed = stubs.call("GetModelStatus", status(name=MODEL, **spec)).model_version_status
        assert [entry.version for entry in listed] == [2, 1]


def test_reload_with_the_same_models_is_accepted(stubs: Stubs, served_path: Path) -> None:
    same = model(
        base_path=str(served_path),
        model_version_policy={"specific": {"versions": [1, 2]}},
        version_labels=LABELS,
    )
    assert stubs.call("HandleReloadConfigRequest", reload(same)).status.error_code == 0
    assert stubs.call("Predict", predict(label="canary")).model_spec.version.value == 2


def test_health_is_reported_for_both_services(stubs: Stubs) -> None:
    health = health_pb2_grpc.HealthStub(stubs.channel)
    for service in ("ModelService", "PredictionService"):
        response = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
        assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_concurrent_requests_of_different_sizes_all_succeed(stubs: Stubs) -> None:
    def predict_size(size: int) -> bool:
        image = np.full((1, 2, size, size + 3, 2), size / 64, np.float32)
        outputs = stubs.call("Predict", predict(inputs={"image": image}), timeout=60).outputs
        probability = tf.make_ndarray(outputs["probability"])
        return probability.shape == image.shape[:4] and np.allclose(probability, size / 64)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(predict_size, [5, 64, 17, 33, 48, 9, 21, 60] * 4))


def test_an_expired_deadline_ends_the_call(stubs: Stubs) -> None:
    slow = predict("slow", inputs={"rounds": np.int32(1_000_000)})
    with pytest.raises(grpc.RpcError) as refused:
        stubs.call("Predict", slow, timeout=0.5)
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_an_image_of_zeros_is_no_lesion(stubs: Stubs) -> None:
    outputs = stubs.call("Predict", predict(inputs={"image": IMAGE})).outputs
    assert not tf.make_ndarray(outputs["mask"]).any()
