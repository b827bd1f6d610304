"""PredictRequest and PredictResponse as bytes, without extra copies of the tensors.

A volume is a hundred megabytes. Protobuf's Python classes copy it when a message is built, when it is put into another
one, when it is serialised, and again in the other direction. Here the bulk of a tensor goes directly from the array
into the message. In a received message it is cut out first, and protobuf parses the rest as usual: names, types,
shapes, merged fields, and everything malformed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from metseg.serving.codec.tensor_proto import BULK_FIELDS, ReceivedTensor, bulk_of
from metseg.serving.codec.wire_format import DELIMITED, LeaveToProtobuf, fields, varint
from metseg.tensorflow_protos import predict_pb2, tensor_pb2

if TYPE_CHECKING:
    from tensorflow.core.framework.tensor_pb2 import TensorProto

Chunk = bytes | memoryview
Bulk = tuple[str, memoryview]
"""Name of the field with a tensor's elements, and its bytes."""

_INPUTS = predict_pb2.PredictRequest.DESCRIPTOR.fields_by_name["inputs"].number
_OUTPUTS = predict_pb2.PredictResponse.DESCRIPTOR.fields_by_name["outputs"].number
_KEY, _VALUE = 1, 2
_BULK_FIELDS = {
    field.number: field.name for field in tensor_pb2.TensorProto.DESCRIPTOR.fields if field.name in BULK_FIELDS
}

_SMALLEST_BULK = 4096


def predict_request(model_spec: Any, inputs: Mapping[str, NDArray[Any]], output_filter: Iterable[str] = ()) -> bytes:
    """Serialise a PredictRequest; its tensors are raw bytes in `tensor_content`, except strings."""
    rest = predict_pb2.PredictRequest(model_spec=model_spec, output_filter=output_filter)
    return _message(rest, _INPUTS, inputs, typed_fields=False)


def predict_response(model_spec: Any, outputs: Mapping[str, NDArray[Any]], *, typed_fields: bool) -> bytes:
    """Serialise a PredictResponse; `typed_fields`: with elements in typed fields, as in TF Serving by default."""
    return _message(predict_pb2.PredictResponse(model_spec=model_spec), _OUTPUTS, outputs, typed_fields=typed_fields)


def read_predict_request(message: bytes) -> tuple[Any, dict[str, ReceivedTensor]]:
    """Read a PredictRequest and its tensors, which keep a reference to `message`.

    Raises:
        DecodeError: if the bytes are not a PredictRequest.
    """
    request, bulks = _read(message, predict_pb2.PredictRequest, _INPUTS)
    return request, _received(request.inputs, bulks)


def read_predict_response(message: bytes) -> tuple[Any, dict[str, ReceivedTensor]]:
    """Read a PredictResponse and its tensors, which keep a reference to `message`; raises DecodeError."""
    response, bulks = _read(message, predict_pb2.PredictResponse, _OUTPUTS)
    return response, _received(response.outputs, bulks)


def _message(rest: Any, field: int, tensors: Mapping[str, NDArray[Any]], *, typed_fields: bool) -> bytes:
    chunks: list[Chunk] = [rest.SerializeToString()]
    for name, array in tensors.items():
        header, bulk = bulk_of(array, typed_fields=typed_fields)
        value = [header.SerializeToString(), *bulk]
        key = name.encode()
        entry = [_delimited(_KEY, len(key)), key, _delimited(_VALUE, _size(value)), *value]
        chunks += [_delimited(field, _size(entry)), *entry]
    return b"".join(chunks)


def _size(chunks: Iterable[Chunk]) -> int:
    return sum(len(chunk) for chunk in chunks)


def _delimited(field: int, length: int) -> bytes:
    return varint(field << 3 | DELIMITED) + varint(length)


def _received(protos: Mapping[str, TensorProto], bulks: Mapping[str, Bulk]) -> dict[str, ReceivedTensor]:
    return {name: ReceivedTensor(proto, *bulks.get(name, ("", None))) for name, proto in protos.items()}


def _read(message: bytes, kind: Any, field: int) -> tuple[Any, dict[str, Bulk]]:
    """Return the message without the bulk of its tensors, and the bulk by name."""
    bulks: dict[str, Bulk] = {}
    try:
        stripped = b"".join(_strip_bulk(memoryview(message), field, bulks))
    except LeaveToProtobuf:
        return kind.FromString(message), {}
    return kind.FromString(stripped), bulks


def _strip_bulk(message: memoryview, field: int, bulks: dict[str, Bulk]) -> Iterator[Chunk]:
    for one in fields(message):
        if one.number != field or not one.delimited:
            yield message[one.start : one.end]
            continue
        entry, name, bulk = _strip_entry(message[one.content : one.end])
        bulks.pop(name, None)  # of a repeated name the last entry counts
        if bulk is not None:
            bulks[name] = bulk
        yield _delimited(field, _size(entry))
        yield from entry


def _strip_entry(entry: memoryview) -> tuple[list[Chunk], str, Bulk | None]:
    chunks: list[Chunk] = []
    name, bulk, values = "", None, 0
    for one in fields(entry):
        if one.number == _KEY and one.delimited:
            name = _text(entry[one.content : one.end])
        if one.number == _VALUE and one.delimited:
            values += 1
            value, bulk = _strip_tensor(entry[one.content : one.end])
            chunks += [_delimited(_VALUE, _size(value)), *value]
        else:
            chunks.append(entry[one.start : one.end])
    if values > 1:  # protobuf merges them
        return [entry], name, None
    return chunks, name, bulk


def _strip_tensor(tensor: memoryview) -> tuple[list[Chunk], Bulk | None]:
    chunks: list[Chunk] = []
    bulk: Bulk | None = None
    for one in fields(tensor):
        if one.number not in _BULK_FIELDS or one.end == one.content:
            chunks.append(tensor[one.start : one.end])
        elif bulk is not None or not one.delimited or one.end - one.content < _SMALLEST_BULK:
            return [tensor], None  # small, or in several pieces: protobuf joins them
        else:
            bulk = _BULK_FIELDS[one.number], tensor[one.content : one.end]
    return chunks, bulk


def _text(name: memoryview) -> str:
    try:
        return bytes(name).decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"Error parsing message: a name is not UTF-8: {error}") from error
