"""Looking for identifiers in everything that a program left: file names, bytes, what is packed or coded in them."""

from __future__ import annotations

import base64
import gzip
import io
import re
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas


def codings(needle: str) -> list[bytes]:
    """A needle as ASCII, UTF-16, UTF-32 (NumPy's own), hexadecimal and, at each of its three offsets, base64."""
    plain = needle.encode()
    coded = [plain, needle.encode("utf-16-le"), needle.encode("utf-16-be"), needle.encode("utf-32-le")]
    coded.append(plain.hex().encode())
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + plain)
        # What the bytes before and after the needle have a part in is cut off.
        first, last = -(-offset * 8 // 6), (offset + len(plain)) * 8 // 6
        coded.append(text[first:last])
    return coded


def layers(name: str, content: bytes) -> Iterator[bytes]:
    """A file's bytes, and what they hold unpacked."""
    yield content
    if content[:2] == b"\x1f\x8b":
        yield from layers(name.removesuffix(".gz"), gzip.decompress(content))
    elif content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield member.encode()
                yield from layers(member, archive.read(member))
    elif content[:4] == b"PAR1":
        yield pandas.read_parquet(io.BytesIO(content)).to_csv().encode()
    elif content[:16] == b"SQLite format 3\0":
        yield from _rows(content)
    for match in re.finditer(rb"base64,([A-Za-z0-9+/=]{64,})", content):
        yield base64.b64decode(match[1] + b"=" * (-len(match[1]) % 4))


def _rows(content: bytes) -> Iterator[bytes]:
    with sqlite3.connect(":memory:") as table:
        # A database in WAL mode cannot be opened in memory; its log is a file of its own, which is searched too.
        table.deserialize(content[:18] + b"\x01\x01" + content[20:])
        for statement in table.iterdump():
            yield statement.encode()


def found(needles: Iterable[str], folders: Iterable[Path], texts: Iterable[str] = ()) -> dict[str, list[str]]:
    """Where each needle occurs, letters' case aside: paths below `folders`, or `text`; empty where none does."""
    wanted = {needle: [code.lower() for code in codings(needle)] for needle in needles}
    places: dict[str, list[str]] = {}

    def search(place: str, content: bytes) -> None:
        low = content.lower()
        for needle, codes in wanted.items():
            if any(code in low for code in codes):
                places.setdefault(needle, []).append(place)

    for text in texts:
        search("text", text.encode())
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            search(f"{path.relative_to(folder)} (its name)", str(path.relative_to(folder)).encode())
            if path.is_file():
                for layer in layers(path.name, path.read_bytes()):
                    search(str(path.relative_to(folder)), layer)
    return places
