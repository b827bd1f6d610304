"""Configuration files in protobuf's text format, and the two of their messages that tensorflow-serving-api leaves out.

The messages are TF Serving's config/ssl_config.proto and config/monitoring_config.proto, field by field.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from metseg.errors import UsageError

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


def _message_classes() -> dict[str, Any]:
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


def read_message(path: Path, message: Any) -> Any:
    """Fill a message from a file in protobuf's text format.

    Raises:
        UsageError: when the file cannot be read or holds something else; it names the file.
    """
    kind = message.DESCRIPTOR.name
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the {kind} cannot be read: {error}") from error
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise UsageError(f"{path}: not a {kind} in protobuf text format: {error}") from error
