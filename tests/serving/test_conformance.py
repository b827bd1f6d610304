"""Each case in which TF Serving says no, with its status code and text, as its C++ sources have them."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from metseg.serving.protos import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
    types_pb2,
)
from metseg.serving.tensors import from_tensor_proto
from tests.serving.conftest import MODEL, Running, predict_request

IMAGE = np.zeros((1, 2, 3, 4, 2), np.float32)
NUMBER = np.float32(1)
CODES = grpc.StatusCode


def predict(**changes: Any) -> Any:
    """A sound request with something changed."""
    request = predict_request("", image=IMAGE)
    for field, value in changes.items():
        match field:
            case "version":
                request.model_spec.version.value = value
            case "label":
                request.model_spec.version_label = value
            case "output_filter":
                request.output_filter.extend(value)
            case "tensor":
                request.inputs["image"].CopyFrom(value)
            case _:
                setattr(request.model_spec, field, value)
    return request


def broken_tensor() -> Any:
    tensor = predict_request("", image=IMAGE).inputs["image"]
    tensor.tensor_content = b"123"
    return tensor


def metadata(*fields: str, **model_spec: Any) -> Any:
    return get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model_spec, metadata_field=fields)


def status(**model_spec: Any) -> Any:
    return get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec)


def reload(*models: dict[str, Any]) -> Any:
    return model_management_pb2.ReloadConfigRequest(config={"model_config_list": {"config": models}})


def model(**changes: Any) -> dict[str, Any]:
    return {"name": MODEL, "base_path": "/nowhere", "model_platform": "tensorflow", **changes}


REFUSED = [
    ("no ModelSpec", "Predict", predict_pb2.PredictRequest(), CODES.INVALID_ARGUMENT, "Missing ModelSpec"),
    ("empty name", "Predict", predict(name=""), CODES.INVALID_ARGUMENT, "ModelSpec has no name specified."),
    ("unknown model", "Predict", predict(name="m"), CODES.NOT_FOUND, "Servable not found for request: Latest(m)"),
    (
        "unknown version",
        "Predict",
        predict(version=7),
        CODES.NOT_FOUND,
        f"Servable not found for request: Specific({MODEL}, 7)",
    ),
    (
        "unknown label",
        "Predict",
        predict(label="X"),
        CODES.INVALID_ARGUMENT,
        "Unrecognized servable version label: X",
    ),
    (
        "label of an unknown model",
        "Predict",
        predict(name="m", label="stable"),
        CODES.INVALID_ARGUMENT,
        "Unrecognized servable version label: stable",
    ),
    (
        "unknown signature",
        "Predict",
        predict(signature_name="X"),
        CODES.FAILED_PRECONDITION,
        'Serving signature key "X" not found.',
    ),
    (
        "too few inputs",
        "Predict",
        predict_request("add", a=NUMBER),
        CODES.INVALID_ARGUMENT,
        "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}.",
    ),
    (
        "too many inputs",
        "Predict",
        predict_request("add", a=NUMBER, b=NUMBER, c=NUMBER),
        CODES.INVALID_ARGUMENT,
        "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). "
        "Sent extra: {c}. Missing but required: {}.",
    ),
    (
        "no inputs",
        "Predict",
        predict_request(""),
        CODES.INVALID_ARGUMENT,
        "input size does not match signature: 0!=1 len({}) != len({image}). "
        "Sent extra: {}. Missing but required: {image}.",
    ),
    (
        "wrong input name",
        "Predict",
        predict_request("", picture=IMAGE),
        CODES.INVALID_ARGUMENT,
        "Signature input alias: image(feed name: serving_default_image:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {picture}, or default input alias set: ",
    ),
    (
        "broken tensor",
        "Predict",
        predict(tensor=broken_tensor()),
        CODES.INVALID_ARGUMENT,
        "tensor parsing error: image",
    ),
    (
        "wrong dtype",
        "Predict",
        predict_request("", image=IMAGE.astype(np.float64)),
        CODES.INVALID_ARGUMENT,
        "Expects arg[0] to be float but double is provided",
    ),
    (
        "unknown output",
        "Predict",
        predict(output_filter=["X"]),
        CODES.INVALID_ARGUMENT,
        "output tensor alias not found in signature: X Outputs expected to be in the set {mask,probability}.",
    ),
    (
        "repeated output",
        "Predict",
        predict(output_filter=["mask", "mask"]),
        CODES.INVALID_ARGUMENT,
        "duplicate output tensor alias: mask",
    ),
    ("metadata without ModelSpec", "GetModelMetadata", None, CODES.INVALID_ARGUMENT, "Missing ModelSpec"),
    (
        "no metadata field",
        "GetModelMetadata",
        metadata(name=MODEL),
        CODES.INVALID_ARGUMENT,
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    (
        "unknown metadata field",
        "GetModelMetadata",
        metadata("X", name=MODEL),
        CODES.INVALID_ARGUMENT,
        "Metadata field X is not supported",
    ),
    (
        "metadata of an unknown model",
        "GetModelMetadata",
        metadata("signature_def", name="m"),
        CODES.NOT_FOUND,
        "Servable not found for request: Latest(m)",
    ),
    ("status without ModelSpec", "GetModelStatus", None, CODES.INVALID_ARGUMENT, "Missing ModelSpec"),
    (
        "status of an unknown version",
        "GetModelStatus",
        status(name=MODEL, version={"value": 9}),
        CODES.NOT_FOUND,
        f"Could not find version 9 of model {MODEL}",
    ),
    (
        "status of an unknown model",
        "GetModelStatus",
        status(name="m"),
        CODES.NOT_FOUND,
        "Could not find any versions of model m",
    ),
    (
        "reload without a list",
        "HandleReloadConfigRequest",
        None,
        CODES.INVALID_ARGUMENT,
        "ServerModelConfig type not supported by HandleReloadConfigRequest."
        " Only ModelConfigList is currently supported",
    ),
    (
        "model listed twice",
        "HandleReloadConfigRequest",
        reload(model(), model()),
        CODES.INVALID_ARGUMENT,
        f"Illegal to list model {MODEL} multiple times in config list",
    ),
    (
        "relative base path",
        "HandleReloadConfigRequest",
        reload(model(base_path="models")),
        CODES.INVALID_ARGUMENT,
        f"Expected model {MODEL} to have an absolute path or URI; got base_path()=models",
    ),
    (
        "no platform",
        "HandleReloadConfigRequest",
        reload(model(model_platform="")),
        CODES.INVALID_ARGUMENT,
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform.",
    ),
    (
        "label moved to a version that is not loaded",
        "HandleReloadConfigRequest",
        reload(model(version_labels={"stable": 5})),
        CODES.FAILED_PRECONDITION,
        f"Request to assign label to version 5 of model {MODEL}, which is not currently available for inference",
    ),
    (
        "Classify",
        "Classify",
        classification_pb2.ClassificationRequest(),
        CODES.UNIMPLEMENTED,
        "Classify is not implemented by metseg's embedded model server; call Predict, or run TF Serving",
    ),
    (
        "Regress",
        "Regress",
        regression_pb2.RegressionRequest(),
        CODES.UNIMPLEMENTED,
        "Regress is not implemented by metseg's embedded model server; call Predict, or run TF Serving",
    ),
    (
        "MultiInference",
        "MultiInference",
        inference_pb2.MultiInferenceRequest(),
        CODES.UNIMPLEMENTED,
        "MultiInference is not implemented by metseg's embedded model server; call Predict, or run TF Serving",
    ),
]
EMPTY = {
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}


@pytest.mark.parametrize(
    ("call", "request_", "code", "text"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refusal_has_the_code_and_text_of_tf_serving(
    running: Running, call: str, request_: Any, code: grpc.StatusCode, text: str
) -> None:
    stub = running.models if hasattr(running.models, call) else running.predictions
    with pytest.raises(grpc.RpcError) as refused:
        getattr(stub, call)(EMPTY[call]() if request_ is None else request_, timeout=30)
    assert (refused.value.code(), refused.value.details()) == (code, text)


def test_error_of_an_operation_keeps_its_code(running: Running) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        running.predictions.Predict(predict_request("", image=np.float32(1)), timeout=30)
    assert refused.value.code() is CODES.INVALID_ARGUMENT
    assert "Invalid reduction dimension" in refused.value.details()


@pytest.mark.parametrize(
    ("changes", "version"), [({}, 2), ({"version": 1}, 1), ({"label": "stable"}, 1), ({"label": "canary"}, 2)]
)
def test_predict_names_the_version_and_signature_that_answered(
    running: Running, changes: dict[str, Any], version: int
) -> None:
    spec = running.predictions.Predict(predict(**changes), timeout=30).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (MODEL, version, "serving_default")
    request = predict_request("describe", request=np.zeros(1, np.int32))
    request.model_spec.MergeFrom(predict(**changes).model_spec)
    request.model_spec.signature_name = "describe"
    described = from_tensor_proto(running.predictions.Predict(request, timeout=30).outputs["specification"]).item()
    assert f'"exported": {version},'.encode() in described


def test_predict_answers_all_outputs_in_typed_fields(running: Running) -> None:
    image = np.arange(24, dtype=np.float32).reshape(1, 1, 3, 4, 2) / 24
    outputs = running.predictions.Predict(predict_request("", image=image), timeout=30).outputs
    assert set(outputs) == {"probability", "mask"}
    expected = [(2 * pixel + 0.5) / 24 for pixel in range(12)]
    assert list(outputs["probability"].float_val) == pytest.approx(expected, rel=1e-6)
    assert outputs["probability"].tensor_content == b""
    assert list(outputs["mask"].int_val) == [0] * 6 + [1] * 6
    assert outputs["mask"].dtype == types_pb2.DT_UINT8
    assert [dim.size for dim in outputs["mask"].tensor_shape.dim] == [1, 1, 3, 4]


def test_output_filter_chooses_the_outputs(running: Running) -> None:
    assert set(running.predictions.Predict(predict(output_filter=["mask"]), timeout=30).outputs) == {"mask"}


def test_metadata_holds_every_signature_as_it_was_saved(running: Running) -> None:
    response = running.predictions.GetModelMetadata(metadata("signature_def", name=MODEL), timeout=30)
    assert (response.model_spec.name, response.model_spec.version.value) == (MODEL, 2)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "describe", "add"} <= set(signatures.signature_def)
    image = signatures.signature_def["serving_default"].inputs["image"]
    assert (image.dtype, [dim.size for dim in image.tensor_shape.dim]) == (types_pb2.DT_FLOAT, [-1] * 5)


def test_status_honours_a_version_and_lists_all_for_a_label(running: Running) -> None:
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    one = running.models.GetModelStatus(status(name=MODEL, version={"value": 1}), timeout=30).model_version_status
    assert [(entry.version, entry.state, entry.status.error_code) for entry in one] == [(1, available, 0)]
    for spec in ({}, {"version_label": "stable"}):
        listed = running.models.GetModelStatus(status(name=MODEL, **spec), timeout=30).model_version_status
        assert [entry.version for entry in listed] == [2, 1]
