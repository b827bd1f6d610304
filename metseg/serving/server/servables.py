"""The versions of all models: their states, and the number of requests that use them.

A version goes START → LOADING → AVAILABLE → UNLOADING → END, as in TF Serving (core/servable_state.h), and stays
listed at END. Requests hold a version while they run: it is closed after the last of them.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

from metseg.serving.server.saved_model import LoadedModel
from metseg.serving.server.status import StatusError, not_found

LOGGER = logging.getLogger(__name__)


class State(IntEnum):
    """ModelVersionStatus.State of get_model_status.proto."""

    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class Servable:
    """One loaded version of one model."""

    name: str
    version: int
    model: LoadedModel


@dataclass
class VersionState:
    """State of a version.

    Attributes:
        error: the reason if it ended without being available.
        servable: the loaded version, unless it has ended.
        users: number of requests that hold it.
    """

    state: State
    error: StatusError | None = None
    servable: Servable | None = None
    users: int = 0


class ServableTable:
    """All versions of all models; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entries: dict[tuple[str, int], VersionState] = {}

    @contextmanager
    def use(self, name: str, version: int | None) -> Iterator[Servable]:
        """Hold an available version, by default the highest, until the block ends.

        Raises:
            StatusError: NOT_FOUND if it is not available.
        """
        with self._lock:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            if version is None:
                version = max(self.available(name), default=-1)
            entry = self._entries.get((name, version))
            if entry is None or entry.state is not State.AVAILABLE or entry.servable is None:
                raise not_found(f"Servable not found for request: {wanted}")
            entry.users += 1
            servable = entry.servable
        try:
            yield servable
        finally:
            with self._lock:
                entry.users -= 1
            self._close_if_unused(name, servable.version, entry)

    def states(self, name: str) -> dict[int, VersionState]:
        """Return the states of all versions of a model since the start, the highest first."""
        with self._lock:
            versions = sorted((version for model, version in self._entries if model == name), reverse=True)
            return {version: self._entries[name, version] for version in versions}

    def names(self) -> set[str]:
        """Return the models with a version that is loading or available."""
        with self._lock:
            return {
                name for (name, _), entry in self._entries.items() if entry.state in (State.LOADING, State.AVAILABLE)
            }

    def available(self, name: str) -> set[int]:
        """Return the available versions of a model."""
        with self._lock:
            return {version for version, entry in self.states(name).items() if entry.state is State.AVAILABLE}

    def set_loading(self, name: str, version: int) -> None:
        """Enter a version that is being loaded, or waits for another attempt."""
        with self._lock:
            # A new entry: requests that still hold an earlier load of this version are counted in its own entry.
            self._entries[name, version] = VersionState(State.LOADING)

    def set_available(self, servable: Servable) -> None:
        """Make a loaded version available."""
        with self._lock:
            entry = self._entries[servable.name, servable.version]
            entry.state, entry.servable = State.AVAILABLE, servable

    def set_failed(self, name: str, version: int, error: StatusError) -> None:
        """End a version that could not be loaded and is not tried again."""
        with self._lock:
            self._entries[name, version] = VersionState(State.END, error)

    def unload(self, name: str, version: int) -> None:
        """Take no more requests for a version; it ends after those in flight."""
        with self._lock:
            entry = self._entries[name, version]
            entry.state = State.UNLOADING
        self._close_if_unused(name, version, entry)

    def unload_all(self) -> None:
        """Unload every available version."""
        for name in self.names():
            for version in self.available(name):
                self.unload(name, version)

    def _close_if_unused(self, name: str, version: int, entry: VersionState) -> None:
        with self._lock:
            if entry.state is not State.UNLOADING or entry.users:
                return
            entry.state, servable, entry.servable = State.END, entry.servable, None
        if servable is not None:
            servable.model.close()
        del servable
        gc.collect()  # a graph has many reference cycles; free its memory now
        LOGGER.info("unloaded %s version %d", name, version)
