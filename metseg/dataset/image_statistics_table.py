"""Parquet table of slice statistics, written case by case in constant memory."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from metseg.errors import DataError

ROWS_AT_ONCE = 1024

StatisticsRow = dict[str, str | int | float | bool | list[int]]
"""Values of a row by column."""


class StatisticsFile:
    """Write rows to a Parquet file in batches; use as a context manager.

    Args:
        path: file to write.

    Raises:
        DataError: no row was added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[StatisticsRow] = []
        self._writer: Any = None

    def __enter__(self) -> StatisticsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()
        elif error is None:
            raise DataError(f"{self._path}: the cohort has no slice.")

    def add(self, rows: list[StatisticsRow]) -> None:
        """Add rows; all have the same columns."""
        self._rows += rows
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        import pyarrow
        from pyarrow import parquet

        if self._writer is None:
            schema = _settled(pyarrow.Table.from_pylist(self._rows).schema)
            self._writer = parquet.ParquetWriter(self._path, schema)
        self._writer.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._writer.schema))
        self._rows.clear()


def _settled(schema: Any) -> Any:
    """Return the schema with empty lists typed as lists of whole numbers."""
    import pyarrow

    types = pyarrow.types
    fields = [
        pyarrow.field(field.name, pyarrow.list_(pyarrow.int64()))
        if types.is_list(field.type) and types.is_null(field.type.value_type)
        else field
        for field in schema
    ]
    return pyarrow.schema(fields)
