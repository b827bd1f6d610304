"""Synchronization of a model server with the configuration file, in two steps for labels.

A reload is refused if a label points at a version that is not loaded (FAILED_PRECONDITION), and a reload loads its
versions only after it was accepted. So the first reload names the versions and leaves labels where they are, and the
second one moves the labels. Every reload carries all models of the file, since a missing model is unloaded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from metseg.errors import NotServed, ServerUnavailable, ServingError, Unreachable, VersionRefused
from metseg.serving.client import ModelClient
from metseg.serving.model_config import ServedModel, read_configuration, set_model
from metseg.serving.reconciliation.serving_volume import ServingVolume
from metseg.tracking.serving_labels import LABELS

LOGGER = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_UNLOAD_SECONDS = 30.0


@dataclass
class ServerSync:
    """Keeps one model server in line with one folder.

    Attributes:
        volume: the shared folder.
        server: the server.
        load_seconds: for loading a version.
        beat: called again and again while waiting, to show that this process is alive.
    """

    volume: ServingVolume
    server: ModelClient
    load_seconds: float
    beat: Callable[[], None]

    def difference(self, served: ServedModel) -> str:
        """Return the difference between server and file for a model; empty if there is none."""
        available, wanted = self.server.available(served.name), set(served.versions)
        differences = {"it lacks": wanted - available, "it still holds": available - wanted}
        if any(differences.values()):
            return "; ".join(
                f"{what} version {', '.join(map(str, sorted(versions)))}"
                for what, versions in differences.items()
                if versions
            )
        for label in sorted({*LABELS.values(), *served.labels}):
            labelled, version = self.server.labelled_version(served.name, label), served.labels.get(label)
            if labelled != version:
                return f"its {label} is {labelled or 'nothing'}, not {version or 'nothing'}"
        return ""

    def apply(self, served: ServedModel) -> None:
        """Make the server hold a model as the file states it (`served`).

        Raises:
            VersionRefused: a version of the file cannot be loaded; labels of the others are set all the same.
            ServingError: the server does not respond.
            Unreachable: the server accepts the configuration, yet differs from it.
        """
        held_back = self._reload()
        failures = []
        for version in served.versions:
            try:
                self.server.wait_until_available(served.name, version, self.load_seconds, self.beat)
            except NotServed as error:
                failures.append(str(error))
        if held_back:
            self._reload()
        self._await_unloaded(served)
        if failures:
            raise VersionRefused("; ".join(failures))
        difference = self.difference(served)
        if difference:
            raise Unreachable(f"the model server at {self.server.address} accepted the configuration, yet {difference}")

    def load(self, served: ServedModel, version: int) -> None:
        """Load a version in addition to those of the file, and wait for it.

        Raises:
            VersionRefused: it cannot be loaded.
            ServingError: the server does not respond.
        """
        self._reload(replace(served, versions=[*served.versions, version]))
        try:
            self.server.wait_until_available(served.name, version, self.load_seconds, self.beat)
        except NotServed as error:
            raise VersionRefused(str(error)) from error

    def _reload(self, served: ServedModel | None = None) -> bool:
        """Reload the file, with `served` in it; return True if labels were held back."""
        configuration = read_configuration(self.volume.config)
        if served is not None:
            set_model(configuration, served)
        held_back = self._hold_back(configuration)
        self.beat()
        try:
            self.server.reload(configuration)
        except ServerUnavailable:
            raise
        except ServingError as error:
            # A new model whose only version does not load is refused here too; the version's state states the reason.
            LOGGER.info("reload refused: %s", error)
        return held_back

    def _hold_back(self, configuration: Any) -> bool:
        """Hold back labels of versions that are not loaded; return True if there were any."""
        held_back = False
        for section in configuration.model_config_list.config:
            available = self.server.available(section.name)
            for label, version in list(section.version_labels.items()):
                if version in available:
                    continue
                held_back = True
                current = self.server.labelled_version(section.name, label)
                del section.version_labels[label]
                if current is not None:
                    section.version_labels[label] = current
                    policy = section.model_version_policy
                    if policy.HasField("specific") and current not in policy.specific.versions:
                        policy.specific.versions.append(current)
        return held_back

    def _await_unloaded(self, served: ServedModel) -> None:
        """Wait until the server has unloaded other versions, which requests may delay."""
        ends = time.monotonic() + _UNLOAD_SECONDS
        while self.server.available(served.name) - set(served.versions) and time.monotonic() < ends:
            self.beat()
            time.sleep(_POLL_SECONDS)
