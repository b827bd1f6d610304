"""The generated message and service classes of TensorFlow Serving, imported without TensorFlow.

The generated modules are inside the packages `tensorflow` and `tensorflow_serving`. A usual import of one of them runs
`tensorflow/__init__.py`, which takes ten seconds and a gigabyte; the modules themselves need protobuf alone. So a bare
package with `tensorflow`'s folder but not its code replaces it during the imports, and is removed again: TensorFlow can
be imported before this module or after it. In both cases the classes are the same, because protobuf has one class for
each message type of its default pool.

The modules are typed `Any`: the generated files carry no type information.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from metseg.errors import ServingError


@contextmanager
def _bare_tensorflow() -> Iterator[None]:
    """Import modules below `tensorflow` without running `tensorflow/__init__.py`."""
    if "tensorflow" in sys.modules:
        yield
        return
    specification = importlib.util.find_spec("tensorflow")
    if specification is None or specification.submodule_search_locations is None:
        raise ServingError(
            "the package tensorflow is not installed; its generated protocol classes are needed to call a model "
            "server: install the extra `serve`"
        )
    bare = ModuleType("tensorflow")
    bare.__path__ = list(specification.submodule_search_locations)
    sys.modules["tensorflow"] = bare
    try:
        yield
    finally:
        # All of them, also the generated ones: a later `import tensorflow` must not see a half-imported package.
        for name in [name for name in sys.modules if name.partition(".")[0] == "tensorflow"]:
            del sys.modules[name]


def _generated(module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ServingError(f"{error}; the model server's protocol needs it: install the extra `serve`") from error


with _bare_tensorflow():
    tensor_pb2 = _generated("tensorflow.core.framework.tensor_pb2")
    types_pb2 = _generated("tensorflow.core.framework.types_pb2")
    saved_model_pb2 = _generated("tensorflow.core.protobuf.saved_model_pb2")
    classification_pb2 = _generated("tensorflow_serving.apis.classification_pb2")
    get_model_metadata_pb2 = _generated("tensorflow_serving.apis.get_model_metadata_pb2")
    get_model_status_pb2 = _generated("tensorflow_serving.apis.get_model_status_pb2")
    inference_pb2 = _generated("tensorflow_serving.apis.inference_pb2")
    model_management_pb2 = _generated("tensorflow_serving.apis.model_management_pb2")
    model_pb2 = _generated("tensorflow_serving.apis.model_pb2")
    predict_pb2 = _generated("tensorflow_serving.apis.predict_pb2")
    prediction_log_pb2 = _generated("tensorflow_serving.apis.prediction_log_pb2")
    regression_pb2 = _generated("tensorflow_serving.apis.regression_pb2")
    model_service_pb2_grpc = _generated("tensorflow_serving.apis.model_service_pb2_grpc")
    prediction_service_pb2_grpc = _generated("tensorflow_serving.apis.prediction_service_pb2_grpc")
    model_server_config_pb2 = _generated("tensorflow_serving.config.model_server_config_pb2")


_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow.serving"
_MESSAGES: dict[str, list[tuple[str, Any]]] = {
    "SSLConfig": [
        ("server_key", _Field.TYPE_STRING),
        ("server_cert", _Field.TYPE_STRING),
        ("custom_ca", _Field.TYPE_STRING),
        ("client_verify", _Field.TYPE_BOOL),
    ],
    "PrometheusConfig": [("enable", _Field.TYPE_BOOL), ("path", _Field.TYPE_STRING)],
    "MonitoringConfig": [("prometheus_config", "PrometheusConfig")],
}
"""Messages that tensorflow-serving-api lacks: fields of TF Serving's config/{ssl,monitoring}_config.proto, in order."""


def _message_classes() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name="metseg/serving.proto", package=_PACKAGE, syntax="proto3")
    for name, members in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (member, kind) in enumerate(members, 1):
            entry = message.field.add(name=member, number=number, label=_Field.LABEL_OPTIONAL)
            if isinstance(kind, str):
                entry.type, entry.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                entry.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _message_classes()
SSLConfig: Any = _CLASSES["SSLConfig"]
MonitoringConfig: Any = _CLASSES["MonitoringConfig"]
