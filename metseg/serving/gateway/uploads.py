"""Stream a multipart request to disk, within limits on bytes, parts and time.

No incoming name is stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from metseg.imaging.channel_names import channel_name
from metseg.serving.gateway.problem_details import Problem
from metseg.serving.gateway.settings import GatewaySettings

MAX_FILES = 16
MAX_PARTS = 64
MAX_TEXT_BYTES = 64 << 10
"""Of the fields and the headers of all parts together, which are kept in memory."""
FILES, FIELDS = "files", ("channels",)
MAX_BOUNDARY_BYTES = 200


@dataclass
class Upload:
    """The content of a request.

    Attributes:
        files: in the order of the request, named by their numbers.
        endings: last part of each file's name, such as `t1c` of `head-t1c.nii.gz`; else empty.
        channels: of the files in order, or patterns of DICOM descriptions, as the request has them.
    """

    files: list[Path] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)


class _Parts:
    """Writes the parts of a multipart body to disk as the parser reports them.

    Starlette's own parser would write each file twice, first to the system's temporary folder.
    """

    def __init__(self, folder: Path, boundary: bytes) -> None:
        self.upload = Upload()
        self.ended = False
        self._folder = folder
        self._file: BinaryIO | None = None
        self._field: bytearray | None = None
        self._parts = self._text_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._keep(self._name, data[start:end]),
                "on_header_value": lambda data, start, end: self._keep(self._value, data[start:end]),
                "on_header_end": self._header,
                "on_headers_finished": self._open,
                "on_part_data": self._data,
                "on_part_end": self._close,
                "on_end": self._end,
            },
        )

    def write(self, block: bytes) -> None:
        """Parse the next bytes of the body; raise Problem if they are no multipart."""
        try:
            self._parser.write(block)
        except FormParserError:
            raise Problem(400, "the body is no valid multipart/form-data") from None

    def close(self) -> None:
        """Close the open file, if any."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Problem(413, f"the upload has more than {MAX_PARTS} parts")
        self._headers = {}

    def _keep(self, text: bytearray, data: bytes) -> None:
        self._text_bytes += len(data)
        if self._text_bytes > MAX_TEXT_BYTES:
            raise Problem(413, f"the fields and part headers have more than {MAX_TEXT_BYTES >> 10} kB")
        text += data

    def _header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name == FILES and b"filename" in options:
            if len(self.upload.files) >= MAX_FILES:
                raise Problem(413, f"more than {MAX_FILES} files; send one per channel, or one zip of DICOM")
            path = self._folder / str(len(self.upload.files))
            self._file = path.open("xb")
            self.upload.files.append(path)
            self.upload.endings.append(channel_name(options[b"filename"].decode("utf-8", "replace")).ending)
        elif name in FIELDS and b"filename" not in options:
            self._field = bytearray()
        else:
            raise Problem(422, f"a part is neither a file named {FILES} nor a field named {' or '.join(FIELDS)}")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        elif self._field is not None:
            self._keep(self._field, data[start:end])

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        elif self._field is not None:
            text = self._field.decode("utf-8", "replace")
            self.upload.channels += [name.strip() for name in text.split(",") if name.strip()]
            self._field = None

    def _end(self) -> None:
        self.ended = True


def boundary_of(content_type: str, content_length: str, settings: GatewaySettings) -> bytes:
    """Return the boundary of a multipart request.

    Raises:
        Problem: the body is of another kind, or too large.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise Problem(415, "send multipart/form-data, with the images as files named files")
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise Problem(400, "the Content-Type has no boundary, or one that is too long")
    if content_length.isdigit() and int(content_length) > settings.upload_bytes:
        raise _too_large(settings)
    return boundary


async def receive(body: AsyncIterator[bytes], boundary: bytes, folder: Path, settings: GatewaySettings) -> Upload:
    """Stream a body into `folder`.

    Raises:
        Problem: it is malformed, too large, too slow, or has no file.
    """
    parts = _Parts(folder, boundary)
    began, received = time.monotonic(), 0
    try:
        while True:
            # Each byte moves the deadline, so that only senders below the slowest average rate miss it, up to the last.
            patience = settings.patience_seconds + received / settings.slowest_rate
            left = began + min(patience, settings.upload_seconds) - time.monotonic()
            block = await asyncio.wait_for(anext(body, b""), max(left, 0))
            if not block:
                break
            received += len(block)
            if received > settings.upload_bytes:
                raise _too_large(settings)
            await asyncio.to_thread(parts.write, block)
    except TimeoutError:
        raise Problem(408, "the upload was too slow and was aborted", Connection="close") from None
    finally:
        parts.close()
    if not parts.ended:
        raise Problem(400, "the body ends before its last boundary")
    if not parts.upload.files:
        raise Problem(422, f"the request has no file; send the images as files named {FILES}")
    return parts.upload


def _too_large(settings: GatewaySettings) -> Problem:
    return Problem(413, f"the upload is larger than {settings.upload_bytes / 2**20:g} MB", Connection="close")
