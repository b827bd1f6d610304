"""Bringing a model server to what the configuration file says, in the two steps that labels need.

A reload is refused where a label points at a version that is not loaded yet (FAILED_PRECONDITION), and the versions of
a reload are loaded only after it was accepted. So the first reload names the versions and leaves labels where they are,
the second one moves them. Every reload carries all models of the file, for one that is left out is unloaded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from metseg.serving.model_config import ServedModel, set_model
from metseg.serving.reconciliation.connection import AVAILABLE, END, ServerConnection, ServerRefusal, VersionStatus
from metseg.serving.reconciliation.outcome import Refused, Unreachable
from metseg.serving.reconciliation.serving_volume import ServingVolume
from metseg.tracking.model_registry import LABELS

LOGGER = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1
_SETTLED_SECONDS = 3.0
"""A failure must be seen for so long: until the server has looked again, it may be that of an earlier load."""
_UNLOAD_SECONDS = 30.0


class Steering:
    """One model server, kept in line with one folder.

    Args:
        volume: the shared folder.
        server: the server.
        patience: seconds that loading a version may take.
        beat: called again and again while waiting, to show that this process is alive.
    """

    def __init__(
        self, volume: ServingVolume, server: ServerConnection, patience: float, beat: Callable[[], None]
    ) -> None:
        self._volume = volume
        self._server = server
        self._patience = patience
        self._beat = beat

    def differs(self, served: ServedModel) -> str:
        """In what the server differs from what the file holds of a model; empty where it does not."""
        available = self._server.available(served.name)
        missing, surplus = set(served.versions) - available, available - set(served.versions)
        if missing or surplus:
            return "; ".join(
                f"{what} version {', '.join(map(str, sorted(versions)))}"
                for what, versions in (("it lacks", missing), ("it still holds", surplus))
                if versions
            )
        for label in sorted({*LABELS.values(), *served.labels}):
            labelled, version = self._server.labelled(served.name, label), served.labels.get(label)
            if labelled != version:
                return f"its {label} is {labelled or 'nothing'}, not {version or 'nothing'}"
        return ""

    def apply(self, served: ServedModel) -> None:
        """Make the server hold of a model what the file says, which is `served`.

        Raises:
            Refused: a version of the file cannot be loaded; labels of the others hold all the same.
            Unreachable: the server is not there, or does not do as it is told.
        """
        configuration = self._volume.configuration()
        held_back = self._hold_back(configuration)
        self._reload(configuration)
        failures = []
        for version in served.versions:
            try:
                self._await_available(served.name, version)
            except Refused as refusal:
                failures.append(str(refusal))
        if held_back:
            configuration = self._volume.configuration()
            self._hold_back(configuration)
            self._reload(configuration)
        self._await_gone(served)
        if failures:
            raise Refused("; ".join(failures))
        difference = self.differs(served)
        if difference:
            raise Unreachable(f"the model server at {self._server.address} took the configuration, yet {difference}")

    def load(self, served: ServedModel, version: int) -> None:
        """Load a version beside those of the file, with no label on it; returns when it answers.

        Raises:
            Refused: it cannot be loaded.
            Unreachable: the server is not there.
        """
        configuration = self._volume.configuration()
        wider = ServedModel(served.name, served.base_path, [*served.versions, version], served.labels)
        set_model(configuration, wider)
        self._hold_back(configuration)
        self._reload(configuration)
        self._await_available(served.name, version)

    def _hold_back(self, configuration: Any) -> bool:
        """Leave labels where they are, or out, whose version is not loaded yet; whether there were any."""
        held_back = False
        for section in configuration.model_config_list.config:
            available = self._server.available(section.name)
            for label, version in list(section.version_labels.items()):
                if version in available:
                    continue
                held_back = True
                current = self._server.labelled(section.name, label)
                del section.version_labels[label]
                if current is not None:
                    section.version_labels[label] = current
                    policy = section.model_version_policy
                    if policy.HasField("specific") and current not in policy.specific.versions:
                        policy.specific.versions.append(current)
        return held_back

    def _reload(self, configuration: Any) -> None:
        self._beat()
        try:
            self._server.reload(configuration)
        except ServerRefusal as refusal:
            # A new model whose only version does not load is refused here too; its state says more.
            LOGGER.info("the model server at %s answered a reload: %s", self._server.address, refusal)

    def _await_available(self, name: str, version: int) -> None:
        ends = time.monotonic() + self._patience
        failing_since: float | None = None
        while True:
            self._beat()
            status = self._server.versions(name).get(version, VersionStatus("unknown to the server", ""))
            if status.state == AVAILABLE:
                return
            now = time.monotonic()
            failing_since = (failing_since or now) if status.state == END and status.error else None
            if failing_since is not None and now - failing_since > _SETTLED_SECONDS:
                raise Refused(f"the server cannot load version {version}: {status.error}")
            if now > ends:
                raise Refused(
                    f"version {version} did not become available in {self._patience:g} s; it is {status.state}"
                    f"{': ' if status.error else ''}{status.error}"
                )
            time.sleep(_LOOK_SECONDS)

    def _await_gone(self, served: ServedModel) -> None:
        """Wait until the server holds nothing that the file leaves out; a request may keep a version for a while."""
        ends = time.monotonic() + _UNLOAD_SECONDS
        while self._server.available(served.name) - set(served.versions) and time.monotonic() < ends:
            self._beat()
            time.sleep(_LOOK_SECONDS)
