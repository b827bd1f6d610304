"""Requests that TF Serving rejects over gRPC, with status code and text from its C++ sources.

The messages are built with the official packages; the sources are model_servers/server_core.cc, model_service_impl.cc,
get_model_status_impl.cc, servables/tensorflow/predict_impl.cc, predict_util.cc, get_model_metadata_impl.cc, and in
TensorFlow cc/saved_model/util.cc, core/common_runtime/direct_session.cc and core/graph/subgraph.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from tests.serving.conformance.model import MODEL

IMAGE = np.zeros((1, 2, 3, 4, 2), np.float32)
NUMBER = np.float32(1)

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_NOT_FOUND = grpc.StatusCode.NOT_FOUND
_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


@dataclass(frozen=True)
class Row:
    """A request and its error; `text` is the beginning of the details if `whole` is not set."""

    name: str
    call: str
    request: Any
    code: grpc.StatusCode
    text: str
    whole: bool = True


def predict(signature: str = "", *, inputs: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A sound request for the model, with something changed."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.model_spec.signature_name = signature
    for name, value in ({"image": IMAGE} if inputs is None else inputs).items():
        proto = value if isinstance(value, TensorProto) else tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(proto)
    for field, value in changes.items():
        match field:
            case "version":
                request.model_spec.version.value = value
            case "label":
                request.model_spec.version_label = value
            case "output_filter":
                request.output_filter.extend(value)
            case _:
                setattr(request.model_spec, field, value)
    return request


def tensor(dtype: Any, shape: list[int], **fields: Any) -> Any:
    """A TensorProto as it is written here, sound or not."""
    proto = TensorProto(dtype=dtype.as_datatype_enum)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    for field, value in fields.items():
        if isinstance(value, list):
            getattr(proto, field).extend(value)
        else:
            setattr(proto, field, value)
    return proto


def metadata(*fields: str, **model_spec: Any) -> Any:
    return get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model_spec, metadata_field=fields)


def status(**model_spec: Any) -> Any:
    return get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec)


def reload(*models: dict[str, Any]) -> Any:
    return model_management_pb2.ReloadConfigRequest(config={"model_config_list": {"config": models}})


def model(**changes: Any) -> dict[str, Any]:
    return {"name": MODEL, "base_path": "/nowhere", "model_platform": "tensorflow", **changes}


PREDICT = [
    Row("no ModelSpec", "Predict", predict_pb2.PredictRequest(), _INVALID, "Missing ModelSpec"),
    Row("empty name", "Predict", predict(name=""), _INVALID, "ModelSpec has no name specified."),
    Row("unknown model", "Predict", predict(name="m"), _NOT_FOUND, "Servable not found for request: Latest(m)"),
    Row(
        "unknown version",
        "Predict",
        predict(version=7),
        _NOT_FOUND,
        f"Servable not found for request: Specific({MODEL}, 7)",
    ),
    Row("unknown label", "Predict", predict(label="X"), _INVALID, "Unrecognized servable version label: X"),
    Row(
        "label of an unknown model",
        "Predict",
        predict(name="m", label="stable"),
        _INVALID,
        "Unrecognized servable version label: stable",
    ),
    Row("unknown signature", "Predict", predict("X"), _PRECONDITION, 'Serving signature key "X" not found.'),
    Row(
        "too few inputs",
        "Predict",
        predict("add", inputs={"a": NUMBER}),
        _INVALID,
        "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}.",
    ),
    Row(
        "too many inputs",
        "Predict",
        predict("add", inputs={"a": NUMBER, "b": NUMBER, "c": NUMBER}),
        _INVALID,
        "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). "
        "Sent extra: {c}. Missing but required: {}.",
    ),
    Row(
        "no inputs",
        "Predict",
        predict(inputs={}),
        _INVALID,
        "input size does not match signature: 0!=1 len({}) != len({image}). "
        "Sent extra: {}. Missing but required: {image}.",
    ),
    Row(
        "wrong input name",
        "Predict",
        predict(inputs={"picture": IMAGE}),
        _INVALID,
        "Signature input alias: image(feed name: serving_default_image:0) not found in request and no default value "
        "provided.",
        whole=False,
    ),
    Row(
        "content of another size than the shape",
        "Predict",
        predict(inputs={"image": tensor(tf.float32, [1, 2, 3, 4, 2], tensor_content=b"123")}),
        _INVALID,
        "tensor parsing error: image",
    ),
    Row(
        "negative size",
        "Predict",
        predict(inputs={"image": tensor(tf.float32, [1, -2, 3, 4, 2], float_val=[1.0])}),
        _INVALID,
        "tensor parsing error: image",
    ),
    Row(
        "a shape beyond all bounds",
        "Predict",
        predict(inputs={"image": tensor(tf.float32, [2**40, 2**40, 1, 1, 1], float_val=[1.0])}),
        _INVALID,
        "tensor parsing error: image",
    ),
    Row(
        "another dtype",
        "Predict",
        predict(inputs={"image": IMAGE.astype(np.float64)}),
        _INVALID,
        "Expects arg[0] to be float but double is provided",
    ),
    Row(
        "a shape that an operation refuses",
        "Predict",
        predict(inputs={"image": NUMBER}),
        _INVALID,
        "Invalid reduction dimension",
        whole=False,
    ),
    Row(
        "unknown output",
        "Predict",
        predict(output_filter=["X"]),
        _INVALID,
        "output tensor alias not found in signature: X Outputs expected to be in the set {mask,probability}.",
    ),
    Row(
        "repeated output",
        "Predict",
        predict(output_filter=["mask", "mask"]),
        _INVALID,
        "duplicate output tensor alias: mask",
    ),
    Row(
        "an operation for an output",
        "Predict",
        predict("__saved_model_init_op", inputs={}),
        _INVALID,
        "Tried to fetch data for 'NoOp', which produces no output.  To run to a node but not fetch any data, pass "
        "'NoOp' as an argument to the 'target_node_names' argument of the Session::Run API.",
    ),
]
METADATA = [
    Row(
        "metadata without ModelSpec",
        "GetModelMetadata",
        get_model_metadata_pb2.GetModelMetadataRequest(),
        _INVALID,
        "Missing ModelSpec",
    ),
    Row(
        "no metadata field",
        "GetModelMetadata",
        metadata(name=MODEL),
        _INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    Row(
        "unknown metadata field",
        "GetModelMetadata",
        metadata("X", name=MODEL),
        _INVALID,
        "Metadata field X is not supported",
    ),
    Row(
        "metadata of an unknown model",
        "GetModelMetadata",
        metadata("signature_def", name="m"),
        _NOT_FOUND,
        "Servable not found for request: Latest(m)",
    ),
]
STATUS = [
    Row(
        "status without ModelSpec",
        "GetModelStatus",
        get_model_status_pb2.GetModelStatusRequest(),
        _INVALID,
        "Missing ModelSpec",
    ),
    Row(
        "status of an unknown version",
        "GetModelStatus",
        status(name=MODEL, version={"value": 9}),
        _NOT_FOUND,
        f"Could not find version 9 of model {MODEL}",
    ),
    Row(
        "status of an unknown model",
        "GetModelStatus",
        status(name="m"),
        _NOT_FOUND,
        "Could not find any versions of model m",
    ),
]
RELOAD = [
    Row(
        "reload without a list",
        "HandleReloadConfigRequest",
        model_management_pb2.ReloadConfigRequest(),
        _INVALID,
        "ServerModelConfig type not supported by HandleReloadConfigRequest."
        " Only ModelConfigList is currently supported",
    ),
    Row(
        "model listed twice",
        "HandleReloadConfigRequest",
        reload(model(), model()),
        _INVALID,
        f"Illegal to list model {MODEL} multiple times in config list",
    ),
    Row(
        "relative base path",
        "HandleReloadConfigRequest",
        reload(model(base_path="models")),
        _INVALID,
        f"Expected model {MODEL} to have an absolute path or URI; got base_path()=models",
    ),
    Row(
        "no platform",
        "HandleReloadConfigRequest",
        reload(model(model_platform="")),
        _INVALID,
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform.",
    ),
    Row(
        "label moved to a version that is not loaded",
        "HandleReloadConfigRequest",
        reload(model(version_labels={"stable": 5})),
        _PRECONDITION,
        f"Request to assign label to version 5 of model {MODEL}, which is not currently available for inference",
    ),
]
REFUSALS = [*PREDICT, *METADATA, *STATUS, *RELOAD]
