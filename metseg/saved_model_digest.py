"""Files and digest of a SavedModel."""

from __future__ import annotations

import hashlib
from pathlib import Path

from metseg.errors import PublishError

SAVED_MODEL_FILE = "saved_model.pb"


def saved_model_digest(path: Path) -> str:
    """Return the SHA-256 (hexadecimal) of a SavedModel, the same for every copy.

    It covers the files in the order of their relative paths: for each the path, a zero byte, the length in eight
    bytes (big-endian) and the contents. Empty folders do not count.

    Raises:
        PublishError: the folder is no SavedModel, or a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in _files(path):
            name = file.relative_to(path).as_posix().encode()
            digest.update(name + b"\0" + file.stat().st_size.to_bytes(8, "big"))
            with file.open("rb") as stream:
                hashlib.file_digest(stream, lambda: digest)  # adds to the digest of all files
    except OSError as error:
        raise PublishError(f"{path}: the SavedModel cannot be read: {error}") from error
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """Return the SavedModel's files in the order of their relative paths."""
    if not (path / SAVED_MODEL_FILE).is_file():
        raise PublishError(f"{path}: not a SavedModel; expected a folder with {SAVED_MODEL_FILE}")
    entries = sorted(path.rglob("*"), key=lambda entry: entry.relative_to(path).as_posix())
    for entry in entries:
        if entry.is_symlink() and entry.is_dir():
            raise PublishError(f"{entry}: a link to a folder; expected a SavedModel without such links")
    return [entry for entry in entries if not entry.is_dir()]
