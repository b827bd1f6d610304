"""Versioned JSON records: frozen dataclasses with one reader and one writer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from metseg.errors import DataError
from metseg.files import read_json_of_others, write_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT_KEY = "format"
MAX_RECORD = 512 << 20
"""Bytes of a file; the largest are manifests of cohorts of DICOM, with the name of every file."""


_ADAPTERS: dict[type[Record], TypeAdapter[Any]] = {}


def _adapter(record: type[Record]) -> TypeAdapter[Any]:
    """Return pydantic's reader and writer of a record; to build one takes milliseconds."""
    from pydantic import TypeAdapter

    if record not in _ADAPTERS:
        _ADAPTERS[record] = TypeAdapter(record)
    return _ADAPTERS[record]


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        content = read_json_of_others(path, MAX_RECORD)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): run the step that writes it again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds {type(content).__name__}, expected a JSON object")
    return content


class Record:
    """Base class of the frozen dataclasses that steps hand on as JSON.

    A subclass is a frozen dataclass of plain values, tuples, mappings, literals and other frozen dataclasses. Its
    fields are the keys of the file. Unknown keys are ignored, so that an older reader can open a newer file of the
    same format.

    Attributes:
        FORMAT: version of the file's format; raise it when a reader of the earlier format would misread the file.
    """

    FORMAT: ClassVar[int] = 1

    @classmethod
    def upgraded(cls, values: dict[str, Any], format: int) -> dict[str, object]:
        """Return the content of an earlier format in the current format.

        Args:
            values: content of the file, without its format.
            format: of the file; 0 for a file without one.
        """
        return values

    def to_dict(self) -> dict[str, object]:
        """Return the content of the file, without its format.

        A number that is not finite becomes null.
        """
        content: dict[str, object] = json.loads(_adapter(type(self)).dump_json(self))
        return content

    @classmethod
    def from_dict(cls, values: Mapping[str, object], source: str) -> Self:
        """Build the record from the content of a file.

        Args:
            values: content of the file.
            source: name of the file, for messages.

        Raises:
            DataError: a field is missing or of another type, or the format is newer than this version of metseg.
        """
        from pydantic import ValidationError

        content = dict(values)
        written = content.pop(FORMAT_KEY, 0)
        if not isinstance(written, int) or written > cls.FORMAT:
            raise DataError(
                f"{source} has format {written}, but this version of metseg reads formats up to {cls.FORMAT}: "
                "use the version that wrote it, or start a new run"
            )
        try:
            if written < cls.FORMAT:
                content = cls.upgraded(content, written)
            record: Self = _adapter(cls).validate_python(content)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{source}: {error!r}; was it written by another version of metseg?") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(
                f"{source}: {place}: {first['msg']}; was it written by another version of metseg?"
            ) from None
        return record

    def write(self, path: Path) -> None:
        """Write the record to `path`, atomically."""
        write_json(path, {FORMAT_KEY: self.FORMAT, **self.to_dict()})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record from `path`.

        Raises:
            DataError: see `from_dict`.
        """
        return cls.from_dict(read_object(path), str(path))
