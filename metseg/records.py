"""Versioned JSON records: frozen dataclasses, each with one way to be read and one way to be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from metseg.errors import DataError
from metseg.files import read_json, write_json

FORMAT_KEY = "format"


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
    def upgraded(cls, values: dict[str, Any], format: int) -> dict[str, Any]:
        """Return the content of a file of an earlier format as the current format has it.

        Args:
            values: content of the file, without its format.
            format: of the file; 0 for a file without one.
        """
        return values

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file, without its format."""
        from pydantic import TypeAdapter

        content: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return content

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str) -> Self:
        """Build the record from the content of a file.

        Args:
            values: content of the file.
            source: name of the file, for messages.

        Raises:
            DataError: a field is missing or of another type, or the format is newer than this version of metseg.
        """
        from pydantic import TypeAdapter, ValidationError

        given = dict(values)
        found = given.pop(FORMAT_KEY, 0)
        if not isinstance(found, int) or found > cls.FORMAT:
            raise DataError(
                f"{source} has format {found}, but this version of metseg reads formats up to {cls.FORMAT}: "
                "use the version that wrote it, or start a new run"
            )
        if found < cls.FORMAT:
            given = cls.upgraded(given, found)
        try:
            return TypeAdapter(cls).validate_python(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(
                f"{source}: {place}: {first['msg']}; was it written by another version of metseg?"
            ) from None

    def write(self, path: Path) -> None:
        """Write the record to `path`, atomically."""
        write_json(path, {FORMAT_KEY: self.FORMAT, **self.to_dict()})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record from `path`.

        Raises:
            DataError: see `from_dict`.
        """
        return cls.from_dict(read_json(path), str(path))
