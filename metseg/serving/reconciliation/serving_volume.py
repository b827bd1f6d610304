"""The folder that reconciler and model server share: `models.config`, a folder a model, in it a folder a version."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from metseg.errors import PublishError
from metseg.retention import expired
from metseg.serving.model_config import (
    ServedModel,
    empty_configuration,
    read_configuration,
    read_model_config,
    remove_model,
    set_model,
    write_configuration,
)
from metseg.serving.publishing import publish, published_versions, remove_leftovers, saved_model_digest, unpublish
from metseg.serving.reconciliation.outcome import Unreachable

CONFIG = "models.config"
_LOCK = ".metseg-reconcile.lock"
_DOWNLOAD = ".metseg-download-"
_LOOK_SECONDS = 0.1


class ServingVolume:
    """What is published, and which of it a server shall hold.

    Args:
        root: the folder, as this process sees it.
        served_root: the same folder as the model server sees it; the same path where none is given.
    """

    def __init__(self, root: Path, served_root: Path | None = None) -> None:
        self.root = root.absolute()
        self._served_root = served_root or self.root

    @property
    def config(self) -> Path:
        """The file for `--model_config_file`."""
        return self.root / CONFIG

    def prepare(self) -> None:
        """Make the folder, and a configuration without models where there is none: a server does not start without."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PublishError(f"{self.root}: the folder of the models cannot be made: {error}") from error
        if not self.config.exists():
            write_configuration(self.config, empty_configuration())

    @contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Be the only one that publishes here; the lock ends with the process that holds it, however that ends.

        Args:
            timeout: seconds to wait for another one to finish.

        Raises:
            Unreachable: another one is still at work; the message names it.
            PublishError: the folder cannot be written.
        """
        self.prepare()
        try:
            lock = (self.root / _LOCK).open("a+b")
        except OSError as error:
            raise PublishError(f"{self.root / _LOCK}: the lock cannot be opened: {error}") from error
        with lock:
            self._take(lock, timeout)
            self._tidy()
            yield

    def _take(self, lock: IO[bytes], timeout: float) -> None:
        ends = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= ends:
                    lock.seek(0)
                    holder = lock.read(200).decode(errors="replace").strip() or "its holder did not say who it is"
                    raise Unreachable(f"another reconciler is at work on {self.root} ({holder})") from None
            time.sleep(_LOOK_SECONDS)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        lock.flush()

    def _tidy(self) -> None:
        """Remove what was left by a process that was killed while it held the lock."""
        for download in self.root.glob(f"{_DOWNLOAD}*"):
            shutil.rmtree(download, ignore_errors=True)
        for written in self.root.glob(f".{CONFIG}.*"):
            written.unlink(missing_ok=True)
        for base in self.root.iterdir():
            if base.is_dir():
                remove_leftovers(base)

    @contextmanager
    def download_folder(self) -> Iterator[Path]:
        """A folder for a download; it is on this disk so that the next one finds it if this process is killed."""
        with tempfile.TemporaryDirectory(prefix=_DOWNLOAD, dir=self.root) as folder:
            yield Path(folder)

    def base(self, name: str) -> Path:
        """Base path of a model, as this process sees it."""
        return self.root / name

    def served_base(self, name: str) -> Path:
        """Base path of a model, as the server sees it."""
        return self._served_root / name

    def configuration(self) -> Any:
        """The ModelServerConfig of the file."""
        return read_configuration(self.config)

    def served(self, name: str) -> ServedModel:
        """What the file holds of a model: examined versions and their labels; without versions where it has none."""
        return read_model_config(self.config).get(name, ServedModel(name, self.served_base(name)))

    def write(self, served: ServedModel) -> None:
        """Put a model into the file, or take it out where nothing of it is served; other models stay."""
        configuration = self.configuration()
        if served.versions:
            set_model(configuration, served)
        else:
            remove_model(configuration, served.name)
        write_configuration(self.config, configuration)

    def published(self, name: str) -> list[int]:
        """Versions whose folder is there, rising."""
        return published_versions(self.base(name))

    def mark(self, name: str, version: int) -> None:
        """Note that a version was in use until now."""
        with suppress(FileNotFoundError):
            os.utime(self.base(name) / str(version))

    def expired(self, name: str, kept: float) -> set[int]:
        """Versions that were published, or last in use, more than `kept` days ago."""
        return {number for number in self.published(name) if expired(self.base(name) / str(number), kept)}

    def digest(self, name: str, version: int) -> str:
        """SHA-256 of a published version."""
        return saved_model_digest(self.base(name) / str(version))

    def publish(self, saved_model: Path, name: str, version: int) -> None:
        """Copy a SavedModel to its place, whole or not at all; raises PublishError."""
        publish(saved_model, self.base(name), version)

    def unpublish(self, name: str, version: int) -> None:
        """Take a version away in one step; raises PublishError."""
        unpublish(self.base(name), version)
