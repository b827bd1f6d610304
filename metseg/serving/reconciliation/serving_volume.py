"""The folder that reconciler and model server share: `models.config`, and the published versions."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from metseg.errors import PublishError, Unreachable
from metseg.files import written_beside
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
from metseg.serving.publishing import published_versions, remove_leftovers
from metseg.tracking.registry_values import MODEL_NAME, require_model_name

CONFIG = "models.config"
_LOCK = ".metseg-reconcile.lock"
REGISTRY = ".metseg-registry"
"""File with the identity of the registry that the models are from."""
_UNKNOWN = "unknown"
_DOWNLOAD = ".metseg-download-"
_POLL_SECONDS = 0.1


class ServingVolume:
    """Published versions, and the configuration of those that a server shall hold.

    Args:
        root: the folder, as this process sees it.
        served_root: the same folder as the model server sees it; None: the same path.
    """

    def __init__(self, root: Path, served_root: Path | None = None) -> None:
        self.root = root.absolute()
        self._served_root = served_root or self.root

    @property
    def config(self) -> Path:
        """The file for `--model_config_file`."""
        return self.root / CONFIG

    def prepare(self) -> None:
        """Make the folder, and a configuration without models if there is none."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PublishError(f"{self.root}: the folder of the models cannot be made: {error}") from error
        if not self.config.exists():
            write_configuration(self.config, empty_configuration())

    @contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Be the only reconciler of this folder; the lock ends with this process.

        Args:
            timeout: seconds to wait for another reconciler.

        Raises:
            Unreachable: another reconciler is still at work; the message names it.
            PublishError: the folder cannot be written.
        """
        self.prepare()
        lock = self.root / _LOCK
        try:
            held = FileLock(
                lock, timeout, poll_interval=_POLL_SECONDS, fallback_to_soft=False, on_acquired=_write_holder
            ).acquire()
        except Timeout:
            holder = lock.read_text(encoding="utf-8", errors="replace")[:200].strip() or "its holder is unknown"
            raise Unreachable(f"another reconciler is at work on {self.root} ({holder})") from None
        except OSError as error:
            raise PublishError(f"{lock}: the lock cannot be opened: {error}") from error
        with held:
            self._remove_leftovers()
            yield

    def _remove_leftovers(self) -> None:
        """Remove the leftovers of a process that was killed while it held the lock."""
        for download in self.root.glob(f"{_DOWNLOAD}*"):
            shutil.rmtree(download, ignore_errors=True)
        for written in self.root.glob(f".{Path(CONFIG).stem}.*"):
            written.unlink(missing_ok=True)
        for base in self.root.iterdir():
            if base.is_dir():
                remove_leftovers(base)

    @contextmanager
    def download_folder(self) -> Iterator[Path]:
        """Give a folder for a download; after a kill, the next reconciler removes it."""
        with tempfile.TemporaryDirectory(prefix=_DOWNLOAD, dir=self.root) as folder:
            yield Path(folder)

    def base(self, name: str) -> Path:
        """Return the base path here; raises MetsegError for an unfit name."""
        return self.root / require_model_name(name)

    def served_base(self, name: str) -> Path:
        """Return the base path at the server; raises MetsegError for an unfit name."""
        return self._served_root / require_model_name(name)

    def served(self, name: str) -> ServedModel:
        """Return the verified versions of a model and their labels, by the file."""
        return read_model_config(self.config).get(name, ServedModel(name, self.served_base(name)))

    def write(self, served: ServedModel) -> None:
        """Write a model to the file; remove it if it has no versions."""
        configuration = read_configuration(self.config)
        if served.versions:
            set_model(configuration, served)
        else:
            remove_model(configuration, served.name)
        write_configuration(self.config, configuration)

    def published(self, name: str) -> list[int]:
        """Return the published versions in ascending order."""
        return published_versions(self.base(name))

    def of_metseg(self) -> set[str]:
        """Return the models of the file whose versions are published here."""
        if not self.config.exists():
            return set()
        return {
            name
            for name, model in read_model_config(self.config).items()
            if MODEL_NAME.fullmatch(name) and model.versions and model.base_path == self.served_base(name)
        }

    @property
    def registry(self) -> str:
        """Identity of the registry that the models are from; empty without a record."""
        path = self.root / REGISTRY
        try:
            return path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise PublishError(f"{path}: the record of the registry cannot be read: {error}") from error

    def record_registry(self, identity: str) -> None:
        """Record the registry of the first models; only a user removes it."""
        if not self.registry:
            with written_beside(self.root / REGISTRY) as beside:
                beside.write_text((identity or _UNKNOWN) + "\n", encoding="utf-8")

    def mark(self, name: str, version: int) -> None:
        """Record that a version was in use until now."""
        with suppress(FileNotFoundError):
            os.utime(self.base(name) / str(version))

    def expired(self, name: str, keep_days: float) -> set[int]:
        """Return the versions that were published, or last in use, more than `keep_days` days ago."""
        return {number for number in self.published(name) if expired(self.base(name) / str(number), keep_days)}


def _write_holder(lock: int) -> None:
    """Write this process into the lock file, for the message of those that wait."""
    os.ftruncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
