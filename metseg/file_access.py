"""Refusals of a file by the system, explained by file, owner and remedy."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

from metseg.errors import UsageError

DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
REMEDY = "use a workspace of your own (METSEG_WORKSPACE), or have its owner give you access"


def require_writable(path: Path) -> None:
    """Require that this user may write a file and its folder, or may make them.

    Raises:
        UsageError: the message names the file or folder in the way, and its owner.
    """
    folder = path.parent
    while not is_there(folder) and folder != folder.parent:
        folder = folder.parent
    for place, mode in ((folder, os.W_OK | os.X_OK), (path, os.R_OK | os.W_OK)):
        if is_there(place) and not os.access(place, mode):
            raise UsageError(denied(place))


def denied(path: Path) -> str:
    """Return the message for a file or folder that this user may not use."""
    if _on_read_only_disk(path):
        return f"{path} is on a disk that is mounted read-only: name another workspace by METSEG_WORKSPACE"
    return f"{path} belongs to {_owner(path)}, and {_name(os.geteuid())} may not use it: {REMEDY}"


def explained_denial(error: BaseException) -> UsageError | None:
    """Return an actionable error for an operating system's refusal of a file; else None."""
    if isinstance(error, OSError) and error.errno in DENIED and isinstance(error.filename, str):
        return UsageError(denied(Path(error.filename)))
    return None


def is_there(path: Path) -> bool:
    """Return whether a file or folder is there, as far as this user may see."""
    try:
        return path.exists()
    except PermissionError:
        return False


def _on_read_only_disk(path: Path) -> bool:
    try:
        return bool(os.statvfs(_nearest(path)).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _owner(path: Path) -> str:
    try:
        return _name(_nearest(path).stat().st_uid)
    except OSError:
        return "another user"


def _nearest(path: Path) -> Path:
    """Return the path, or the closest folder above it that is there."""
    while not is_there(path) and path != path.parent:
        path = path.parent
    return path


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
