"""The wire format of protobuf: positions of the fields in a message, and variable-length integers.

Reference: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from google.protobuf.message import DecodeError

DELIMITED = 2
"""Wire type of a field that begins with its length."""
LONGEST_VARINT = 10
"""Bytes of a 64-bit number, of seven bits each."""
_MOST_FIELDS = 64
"""A message with more fields is parsed by protobuf as a whole."""


class LeaveToProtobuf(Exception):
    """The message has to be parsed by protobuf as a whole."""


class Field(NamedTuple):
    """Positions of a field in a message: start, start of its content, end."""

    number: int
    delimited: bool
    start: int
    content: int
    end: int


def fields(message: memoryview) -> Iterator[Field]:
    """Iterate over the fields of a message in their order.

    Raises:
        LeaveToProtobuf: for very many fields, or a field of another wire type.
        DecodeError: if the bytes are not a message.
    """
    position, count = 0, 0
    while position < len(message):
        count += 1
        if count > _MOST_FIELDS:
            raise LeaveToProtobuf
        start = position
        tag, content = read_varint(message, position)
        match tag & 7:
            case 0:
                _, position = read_varint(message, content)
            case 1:
                position = content + 8
            case 5:
                position = content + 4
            case 2:
                length, content = read_varint(message, content)
                position = content + length
            case _:
                raise LeaveToProtobuf  # a group, or an unknown type: protobuf reports it
        if position > len(message):
            raise DecodeError("Error parsing message: a field is longer than its message")
        yield Field(tag >> 3, tag & 7 == DELIMITED, start, content, position)


def read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it; raises DecodeError."""
    number = 0
    for shift in range(LONGEST_VARINT):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number, position
    raise DecodeError("Error parsing message: a number does not end")


def varint(number: int) -> bytes:
    """Encode a number of zero or more in base 128, low digits first."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
