"""Atomic publication of SavedModels below a model server's base path.

A version is copied into a hidden folder next to its place, compared with the source, flushed to the disk and renamed.
A server can see it from the rename on, and takes no folder for a version unless its name is a number. Publishers of
one base path take turns by a lock that ends with the process that holds it. So a hidden folder that exists under the
lock was left by a killed publisher, and is removed.
"""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from metseg.errors import PublishError
from metseg.files import flush_folder
from metseg.saved_model_digest import saved_model_digest

LOGGER = logging.getLogger(__name__)

_HIDDEN = ".metseg-publishing-"
_LOCK_FILE = ".metseg-publish.lock"
_CHUNK = 1 << 20


def publish(saved_model: Path, base_path: Path, version: int) -> Path:
    """Copy a SavedModel to `<base_path>/<version>`; return that folder.

    A version that is already published with the same contents stays as it is.

    Raises:
        PublishError: the source is no SavedModel, the version is published with other contents, the copy differs from
            the source, or the disk refuses. Nothing half-written is left where a server looks.
    """
    if version < 1:
        raise PublishError(f"version {version} of {base_path} is not a version number; expected 1 or more")
    target = base_path / str(version)
    digest = saved_model_digest(saved_model)
    try:
        with _only_publisher(base_path):
            if target.exists():
                published = saved_model_digest(target)
                if published != digest:
                    raise PublishError(
                        f"{target}: this version is published with other contents (sha256 {published}, to be "
                        f"published {digest}); a version never changes: register the model as a new version"
                    )
                LOGGER.info("%s is already published", target)
                return target
            hidden = _hidden_folder(base_path, version)
            try:
                _copy(saved_model, hidden)
                if saved_model_digest(hidden) != digest:
                    raise PublishError(
                        f"{target}: the copy differs from {saved_model}; the source changed meanwhile, or the disk "
                        "is failing: nothing was published, publish again"
                    )
                hidden.rename(target)
            finally:
                shutil.rmtree(hidden, ignore_errors=True)
            flush_folder(base_path)
    except OSError as error:
        raise PublishError(f"{target}: the version cannot be published: {error}; nothing was published") from error
    LOGGER.info("published %s (sha256 %s)", target, digest)
    return target


def unpublish(base_path: Path, version: int) -> bool:
    """Remove a published version atomically; return False if there is none.

    Raises:
        PublishError: the disk refuses.
    """
    target = base_path / str(version)
    if not target.exists():
        return False
    try:
        with _only_publisher(base_path):
            hidden = _hidden_folder(base_path, version)
            target.rename(hidden)
            flush_folder(base_path)
            shutil.rmtree(hidden)
    except OSError as error:
        raise PublishError(f"{target}: the version cannot be removed: {error}") from error
    LOGGER.info("unpublished %s", target)
    return True


def published_versions(base_path: Path) -> list[int]:
    """Return the versions below a base path, in ascending order."""
    if not base_path.is_dir():
        return []
    return sorted(int(child.name) for child in base_path.iterdir() if child.name.isascii() and child.name.isdigit())


def remove_leftovers(base_path: Path) -> None:
    """Remove the hidden folders of killed publishers below a base path.

    Wait for an active publisher.
    """
    if any(base_path.glob(f"{_HIDDEN}*")):
        with _only_publisher(base_path):
            pass


def _hidden_folder(base_path: Path, version: int) -> Path:
    return base_path / f"{_HIDDEN}{version}-{uuid.uuid4().hex}"


@contextmanager
def _only_publisher(base_path: Path) -> Iterator[None]:
    """Hold the base path's lock, with the leftovers of killed publishers removed."""
    base_path.mkdir(parents=True, exist_ok=True)
    with FileLock(base_path / _LOCK_FILE, fallback_to_soft=False):
        for leftover in base_path.glob(f"{_HIDDEN}*"):
            LOGGER.warning("removing %s, left by a publisher that was stopped", leftover)
            shutil.rmtree(leftover)
        yield


def _copy(source: Path, target: Path) -> None:
    """Copy files and folders, and flush each to the disk."""
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
