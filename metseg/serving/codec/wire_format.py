"""The fields of a serialised protobuf message: where each begins and ends.

The encoding is that of https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from google.protobuf.message import DecodeError

DELIMITED = 2
"""The wire type of a field that starts with its length."""
LONGEST_VARINT = 10
"""A 64-bit number takes at most ten bytes of seven bits."""
_MOST_FIELDS = 64
"""A message with more fields than that is left to protobuf whole: nothing is to be gained, and Python is slow."""


class LeaveToProtobuf(Exception):
    """The message is for protobuf to read."""


class Field(NamedTuple):
    """Where a field of a message begins, where its content does, and where it ends."""

    number: int
    delimited: bool
    start: int
    content: int
    end: int


def fields(message: memoryview) -> Iterator[Field]:
    """The fields in their order.

    Raises:
        LeaveToProtobuf: there are very many, or of a kind that is not read here.
        DecodeError: the bytes are no message.
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
                raise LeaveToProtobuf  # groups, or nothing that protobuf knows: it will say so
        if position > len(message):
            raise DecodeError("Error parsing message: a field is longer than what holds it")
        yield Field(tag >> 3, tag & 7 == DELIMITED, start, content, position)


def read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """The number at a position, and where what follows it begins; raises DecodeError."""
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
    """A number of zero or more in base 128, its low digits first."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
