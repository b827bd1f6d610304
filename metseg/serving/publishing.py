"""Publishing a SavedModel below a model server's base path: a version appears whole or not at all.

A version is copied into a hidden folder beside its place, checked against the source, flushed to the disk and
renamed. The rename is the one moment at which a server can see it, and a server takes no folder for a version whose
name is not a number. Publishers of one base path take turns by a lock that ends with the process that holds it, so a
hidden folder found under the lock was left by a publisher that was killed, and is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metseg.errors import PublishError
from metseg.files import flush_folder

LOGGER = logging.getLogger(__name__)

SAVED_MODEL_FILE = "saved_model.pb"
_BESIDE = ".metseg-publishing-"
_LOCK_FILE = ".metseg-publish.lock"
_CHUNK = 1 << 20


def saved_model_digest(path: Path) -> str:
    """SHA-256 (hexadecimal) of a SavedModel, the same wherever it is copied.

    It runs over the files in the order of their relative paths: for each the path, a zero byte, the length in eight
    bytes (big-endian) and the contents. Empty folders do not count.

    Raises:
        PublishError: when the folder is no SavedModel, or a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in _files(path):
            name = file.relative_to(path).as_posix().encode()
            digest.update(name + b"\0" + file.stat().st_size.to_bytes(8, "big"))
            with file.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
    except OSError as error:
        raise PublishError(f"{path}: the SavedModel cannot be read: {error}") from error
    return digest.hexdigest()


def publish(saved_model: Path, base_path: Path, version: int) -> Path:
    """Copy a SavedModel to `<base_path>/<version>`; returns that folder.

    A version that is there already with the same contents is left alone.

    Raises:
        PublishError: when the source is no SavedModel, the version is there with other contents, the copy differs from
            the source, or the disk refuses. Nothing half-written is left where a server looks.
    """
    if version < 1:
        raise PublishError(f"version {version} of {base_path} is not a version number; expected 1 or more")
    target = base_path / str(version)
    digest = saved_model_digest(saved_model)
    try:
        with _only_publisher(base_path):
            if target.exists():
                return _already_published(target, digest)
            beside = base_path / f"{_BESIDE}{version}-{uuid.uuid4().hex}"
            try:
                _copy(saved_model, beside)
                if saved_model_digest(beside) != digest:
                    raise PublishError(
                        f"{target}: the copy differs from {saved_model}; the source changed meanwhile, or the disk "
                        "is failing: nothing was published, publish again"
                    )
                beside.rename(target)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            flush_folder(base_path)
    except OSError as error:
        raise PublishError(f"{target}: the version cannot be published: {error}; nothing was published") from error
    LOGGER.info("published %s (sha256 %s)", target, digest)
    return target


def unpublish(base_path: Path, version: int) -> bool:
    """Remove a version in one step from where a server looks; False when it was not there. Raises PublishError."""
    target = base_path / str(version)
    if not target.exists():
        return False
    try:
        with _only_publisher(base_path):
            beside = base_path / f"{_BESIDE}{version}-{uuid.uuid4().hex}"
            target.rename(beside)
            flush_folder(base_path)
            shutil.rmtree(beside)
    except OSError as error:
        raise PublishError(f"{target}: the version cannot be removed: {error}") from error
    LOGGER.info("unpublished %s", target)
    return True


def published_versions(base_path: Path) -> list[int]:
    """The versions below a base path, rising; none when the folder is missing."""
    if not base_path.is_dir():
        return []
    return sorted(int(child.name) for child in base_path.iterdir() if child.name.isascii() and child.name.isdigit())


def remove_leftovers(base_path: Path) -> None:
    """Remove what killed publishers left below a base path; waits for one that is at work."""
    if any(base_path.glob(f"{_BESIDE}*")):
        with _only_publisher(base_path):
            pass


def _files(path: Path) -> list[Path]:
    """The SavedModel's files in the order of their relative paths."""
    if not (path / SAVED_MODEL_FILE).is_file():
        raise PublishError(f"{path}: not a SavedModel; expected a folder with {SAVED_MODEL_FILE}")
    files = []
    for folder, folders, names in os.walk(path):
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise PublishError(
                    f"{Path(folder) / name}: a link to a folder; expected a SavedModel without such links"
                )
        files += [Path(folder) / name for name in names]
    return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def _already_published(target: Path, digest: str) -> Path:
    published = saved_model_digest(target)
    if published != digest:
        raise PublishError(
            f"{target}: this version is published with other contents (sha256 {published}, to be published {digest}); "
            "a version never changes: register the model as a new version"
        )
    LOGGER.info("%s is published already", target)
    return target


@contextmanager
def _only_publisher(base_path: Path) -> Iterator[None]:
    """Hold the base path's lock, with the leftovers of killed publishers removed."""
    base_path.mkdir(parents=True, exist_ok=True)
    with (base_path / _LOCK_FILE).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in base_path.glob(f"{_BESIDE}*"):
            LOGGER.warning("removing %s, left by a publisher that was stopped", leftover)
            shutil.rmtree(leftover)
        yield


def _copy(source: Path, target: Path) -> None:
    """Copy files and folders, every one flushed to the disk."""
    target.mkdir()
    for folder, folders, names in os.walk(source):
        here = target / Path(folder).relative_to(source)
        for name in folders:
            (here / name).mkdir()
        for name in names:
            with (Path(folder) / name).open("rb") as reader, (here / name).open("wb") as writer:
                shutil.copyfileobj(reader, writer, _CHUNK)
                writer.flush()
                os.fsync(writer.fileno())
    for folder, _, _ in os.walk(target):
        flush_folder(Path(folder))
