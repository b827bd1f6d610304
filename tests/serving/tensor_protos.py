"""Whole TensorProtos, put together from what client and server write in pieces."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from metseg.serving.codec.tensor_proto import bulk_of


def to_tensor_proto(array: NDArray[Any], *, typed_fields: bool = False) -> Any:
    """The array as a TensorProto; arguments and errors are those of `bulk_of`."""
    proto, bulk = bulk_of(array, typed_fields=typed_fields)
    proto.MergeFromString(b"".join(bulk))
    return proto
