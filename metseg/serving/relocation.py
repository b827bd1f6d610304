"""Relocate a copied or moved workspace: its own files replace those in its old place."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from metseg.errors import MetsegError
from metseg.file_access import require_writable
from metseg.files import written_beside
from metseg.serving.model_config import read_configuration, write_configuration
from metseg.settings import Settings
from metseg.workspace import DATABASE, made_at, record

MANIFESTS = "var/mlartifacts/**/manifest.json"
"""Artifacts that name the run's data, which may be in the workspace too."""
LOCK_SECONDS = 10.0


def relocate(settings: Settings) -> list[str]:
    """Replace a workspace's old path by the present one, in all that later commands read.

    These are MLflow's database and those of searches, the manifests of runs, and `models.config`. Nothing outside
    the workspace is changed.

    Returns:
        What was changed, one line a file; empty if the workspace is where it was made.

    Raises:
        MetsegError: a file is in use, or may not be written.
    """
    workspace = settings.workspace
    before = made_at(workspace)
    if before is None or before == workspace:
        return []
    replaced = replacement(before, workspace)
    changes = []
    for database in (workspace / "var" / DATABASE, *sorted((workspace / "var/tune").glob("*/study.db"))):
        if database.is_file() and (count := _relocate_database(database, replaced)):
            changes.append(f"{database}: {count} values")
    for manifest in sorted(workspace.glob(MANIFESTS)):
        text = manifest.read_text(encoding="utf-8")
        if (changed := replaced(text)) != text:
            with written_beside(manifest) as beside:
                beside.write_text(changed, encoding="utf-8")
            changes.append(str(manifest))
    changes += _relocate_configuration(settings.model_base_path / "models.config", before, workspace)
    record(workspace)
    return changes


def replacement(before: Path, after: Path) -> Callable[[str], str]:
    """Return a function that replaces one folder by another in a text.

    It replaces paths and `file:` URIs.

    Example:
        >>> move = replacement(Path("/data/one"), Path("/data/two"))
        >>> move("/data/one/var"), move('{"uri": "file:///data/one"}'), move("/data/one2, /data/data/one")
        ('/data/two/var', '{"uri": "file:///data/two"}', '/data/one2, /data/data/one')
    """
    pairs = {before.as_uri(): after.as_uri(), str(before): str(after)}
    pattern = re.compile(
        rf"(?<![^\s\"'=,;:+(\[])({'|'.join(map(re.escape, pairs))})(?=$|[/\"',;)\]\s#@])",
    )
    return lambda text: pattern.sub(lambda match: pairs[match[1]], text)


def _relocate_database(path: Path, replaced: Callable[[str], str]) -> int:
    """Replace the folder in every text of a SQLite database; return how many changed.

    Either all change or none.
    """
    require_writable(path)
    try:
        with (
            FileLock(path.with_name(f".{path.name}.lock"), LOCK_SECONDS),
            closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as database,
            database,
        ):
            database.create_function("relocated", 1, lambda text: replaced(text) if isinstance(text, str) else text)
            # Triggers and keys refer to identifiers alone, never to paths.
            return sum(
                database.execute(
                    f"UPDATE {table} SET {column} = relocated({column}) WHERE {column} != relocated({column})"
                ).rowcount
                for table, column in list(_texts(database))
            )
    except (sqlite3.Error, TimeoutError) as error:
        raise MetsegError(
            f"{path} cannot be changed ({error}): end what uses the workspace, then repeat the command"
        ) from error


def _texts(database: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield table and column, quoted, of each column of texts."""
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for _, column, kind, *_ in database.execute(f"PRAGMA table_info({_quoted(table)})").fetchall():
            if any(name in kind.upper() for name in ("CHAR", "TEXT", "JSON", "CLOB")):
                yield _quoted(table), _quoted(column)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _relocate_configuration(path: Path, before: Path, after: Path) -> list[str]:
    """Replace the folder in the base paths of a `models.config`."""
    if not path.is_file():
        return []
    configuration = read_configuration(path)
    changed = False
    for model in configuration.model_config_list.config:
        base = Path(model.base_path)
        if base.is_relative_to(before):
            model.base_path = str(after / base.relative_to(before))
            changed = True
    if changed:
        write_configuration(path, configuration)
    return [str(path)] if changed else []
