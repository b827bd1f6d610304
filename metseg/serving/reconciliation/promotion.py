"""Promotion and roll-back, for the pipeline's promote step, `metseg promote` and `metseg rollback`.

All of them only move an alias, like a user in the MLflow UI. Reconciliation follows the alias, in this process or in
one next to the model server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from metseg.errors import MetsegError, PublishError, UsageError
from metseg.retention import Retention
from metseg.serving.client import ModelClient
from metseg.serving.reconciliation.reconciler import Reconciler
from metseg.serving.reconciliation.reconciliation_limits import ReconcileLimits
from metseg.serving.reconciliation.registry_state import REASON_TAG, AliasRegistry
from metseg.serving.reconciliation.serving_volume import ServingVolume
from metseg.settings import Settings
from metseg.tracking.model_registry import REFUSED, SERVING_TAG
from metseg.tracking.registry_values import version_number
from metseg.tracking.serving_labels import CHALLENGER, CHAMPION, LABELS, PREVIOUS

LOGGER = logging.getLogger(__name__)

_POLL_SECONDS = 1.0


class Follower(Protocol):
    """Makes labels follow the aliases of a model.

    Attributes:
        address: `host:port` of the model server; empty if it is unknown.
    """

    address: str

    def follow(self, name: str) -> dict[str, int]:
        """Follow all aliases of a model; return the version of each label."""

    def await_label(self, name: str, label: str, number: int) -> bool:
        """Wait until a label points at a version; return False if it was refused."""


@dataclass
class LocalFollower:
    """Reconciles in this process.

    Attributes:
        reconciler: does the turn.
        address: its server.
    """

    reconciler: Reconciler
    address: str

    def follow(self, name: str) -> dict[str, int]:
        """Reconcile once."""
        result = self.reconciler.reconcile(name)
        for complaint in result.complaints:
            LOGGER.warning("%s: %s", name, complaint)
        return result.served.labels

    def await_label(self, name: str, label: str, number: int) -> bool:
        """Reconcile once; return whether the label points at the version."""
        return self.follow(name).get(label) == number


@dataclass
class RemoteFollower:
    """Waits for a reconciler next to the model server, which reports by tags.

    Attributes:
        registry: the registry of both.
        address: the server; empty if it is unknown.
        seconds: longest wait.
    """

    registry: AliasRegistry
    address: str
    seconds: float

    def follow(self, name: str) -> dict[str, int]:
        """Return the version of each label, by the registry's tags."""
        desired = self.registry.desired_state(name)
        tagged = desired.tagged_labels if desired is not None else {}
        return {label: number for label, text in tagged.items() if (number := version_number(text)) is not None}

    def await_label(self, name: str, label: str, number: int) -> bool:
        """Wait until the label points at the version, or its alias is set back.

        Raises:
            PublishError: neither happened in time.
        """
        alias = next(alias for alias, of_alias in LABELS.items() if of_alias == label)
        ends = time.monotonic() + self.seconds
        while time.monotonic() < ends:
            desired = self.registry.desired_state(name)
            if desired is not None and desired.tagged_labels.get(label) == str(number):
                return True
            if desired is None or desired.aliases.get(alias) != number:
                return False
            time.sleep(_POLL_SECONDS)
        raise PublishError(
            f"{label} of {name} is not version {number} after {self.seconds:g} s, and no reason is reported: "
            "is `metseg reconcile` running next to the model server?"
        )


@contextmanager
def following(settings: Settings, registry: AliasRegistry) -> Iterator[Follower]:
    """Give the follower that the settings name.

    Raises:
        UsageError: the settings contradict each other.
    """
    limits = ReconcileLimits(keep_days=Retention.from_environment().versions)
    if settings.reconciler == "elsewhere":
        yield RemoteFollower(registry, settings.model_server, limits.load_seconds + limits.lock_seconds)
        return
    volume = ServingVolume(settings.model_base_path, settings.served_base_path)
    with _server(settings, volume) as address, ModelClient(address, limits.load_seconds, retry_delays=()) as server:
        yield LocalFollower(Reconciler(registry, volume, server, limits), address)


@contextmanager
def _server(settings: Settings, volume: ServingVolume) -> Iterator[str]:
    """Give the address of the settings' server, else of an embedded one."""
    if settings.model_server:
        yield settings.model_server
        return
    if settings.served_base_path is not None:
        raise UsageError(
            f"METSEG_SERVED_BASE_PATH is {settings.served_base_path}, but METSEG_MODEL_SERVER names no server that "
            "sees the models there: set both, or none"
        )
    from metseg.quiet_tensorflow import import_tensorflow

    import_tensorflow()
    from metseg.serving.server.flags import ServerOptions
    from metseg.serving.server.model_server import ModelServer

    volume.prepare()
    options = ServerOptions(
        port=0,
        model_config_file=str(volume.config),
        allow_version_labels_for_unavailable_models=True,
        max_num_load_retries=0,
    )
    with ModelServer(options) as server:
        yield f"127.0.0.1:{server.port}"


def promote(registry: AliasRegistry, follower: Follower, name: str, number: int) -> None:
    """Make a version the champion, under the label `stable`; the champion before becomes `previous`.

    Raises:
        PublishError: the version was refused; the alias is where it was.
        MetsegError: the version does not exist.
    """
    if registry.version(name, number) is None:
        raise MetsegError(f"{name} has no version {number}: `metseg models {name}` lists its versions")
    registry.point(name, CHAMPION, number)
    _await_label(registry, follower, name, CHAMPION, number)
    desired = registry.desired_state(name)
    if desired is not None and desired.aliases.get(CHALLENGER) == number:
        registry.point(name, CHALLENGER, None)
        follower.follow(name)
    LOGGER.info("version %d of %s is champion and served as %s", number, name, LABELS[CHAMPION])


def challenge(registry: AliasRegistry, follower: Follower, name: str, number: int) -> None:
    """Wait until the challenger is under the label `canary`, unless it already is the champion.

    Raises:
        PublishError: the version was refused; the alias is where it was.
    """
    desired = registry.desired_state(name)
    if desired is not None and desired.aliases.get(CHAMPION) == number:
        return
    _await_label(registry, follower, name, CHALLENGER, number)
    LOGGER.info("version %d of %s is served as %s", number, name, LABELS[CHALLENGER])


def rollback(registry: AliasRegistry, follower: Follower, name: str) -> int:
    """Make the previous champion the champion, and return it; a second roll-back undoes this.

    Raises:
        MetsegError: there is no previous champion.
        PublishError: the version was refused; the alias is where it was.
    """
    desired = registry.desired_state(name)
    if desired is None:
        raise MetsegError(f"the registry holds no model {name}: train one with `metseg run`")
    previous = desired.aliases.get(PREVIOUS)
    if previous is None:
        raise MetsegError(f"{name} has no version {PREVIOUS}, so there is nothing to go back to")
    promote(registry, follower, name, previous)
    return previous


def _await_label(registry: AliasRegistry, follower: Follower, name: str, alias: str, number: int) -> None:
    if follower.await_label(name, LABELS[alias], number):
        return
    version = registry.version(name, number)
    tags = version.tags if version is not None else {}
    reason = tags.get(REASON_TAG, "no reason is given") if tags.get(SERVING_TAG) == REFUSED else "the alias moved on"
    raise PublishError(f"version {number} of {name} is not served as {LABELS[alias]}: {reason}")
