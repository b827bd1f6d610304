"""The place of a workspace, recorded in it to notice a copy or move.

MLflow's SQLite store and `models.config` hold absolute paths. A copy would write into the original by them.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from metseg.errors import UsageError
from metseg.file_access import is_there
from metseg.files import read_json, write_json

PLACE = "workspace.json"
"""File below `var` with the workspace's path."""
DATABASE = "mlflow.db"
_ARTIFACTS = "/var/mlartifacts"


def made_at(workspace: Path) -> Path | None:
    """Return where a workspace was made or relocated to; None if nothing records it.

    Workspaces of earlier versions record it by the places of MLflow's artifacts alone.
    """
    try:
        content = read_json(workspace / "var" / PLACE)
    except (OSError, ValueError):
        return _place_of_artifacts(workspace / "var" / DATABASE)
    path = content.get("path") if isinstance(content, dict) else None
    return Path(path) if isinstance(path, str) and path.startswith("/") else None


def require_place(workspace: Path) -> None:
    """Require that a workspace is where it was made.

    Raises:
        UsageError: it was copied or moved; the message names the command that repairs it.
    """
    before = made_at(workspace)
    if before is None or before == workspace:
        return
    what = "copied" if is_there(before / "var") else "moved"
    raise UsageError(
        f"the workspace {workspace} was {what} from {before}, and its registry still names files there: type "
        f"`metseg workspace --relocate` in it, which changes nothing in {before}"
    )


def require_place_of(file: Path) -> None:
    """Require the same of the workspace around a file, if there is one.

    Raises:
        UsageError: the workspace was copied or moved.
    """
    for folder in file.resolve().parents:
        if (folder / "var" / PLACE).exists():
            require_place(folder)


def claim(workspace: Path) -> None:
    """Record the place of a workspace that has none on record."""
    if not (workspace / "var" / PLACE).exists():
        require_place(workspace)
        record(workspace)


def record(workspace: Path) -> None:
    """Record that a workspace is where it is now."""
    write_json(workspace / "var" / PLACE, {"path": str(workspace)})


def _place_of_artifacts(database: Path) -> Path | None:
    """Return the workspace whose artifacts a database names; None if it names no single one."""
    if not database.is_file():
        return None
    places: set[Path] = set()
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as opened:
        for (root,) in opened.execute("SELECT artifact_location FROM experiments"):
            parts = urlsplit(root or "")
            if parts.scheme == "file" and parts.path.endswith(_ARTIFACTS):
                places.add(Path(unquote(parts.path).removesuffix(_ARTIFACTS)))
    return places.pop() if len(places) == 1 else None
