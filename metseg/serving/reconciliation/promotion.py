"""Moving aliases on purpose: by the pipeline's promote step, `metseg promote` and `metseg rollback`.

Whoever moves an alias in the MLflow UI has the same effect: all of these only point an alias and have it followed by
reconciliation, in this process or in one that runs beside the model server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from metseg.errors import MetsegError, PublishError, UsageError
from metseg.retention import version_days
from metseg.serving.reconciliation.connection import ServerConnection
from metseg.serving.reconciliation.limits import Limits
from metseg.serving.reconciliation.reconciler import Reconciler
from metseg.serving.reconciliation.registry_state import REASON_TAG, AliasRegistry, Wanted, label_tag
from metseg.serving.reconciliation.serving_volume import ServingVolume
from metseg.settings import Settings
from metseg.tracking.model_registry import CHALLENGER, CHAMPION, LABELS, PREVIOUS, REFUSED, SERVING_TAG

LOGGER = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Follower(Protocol):
    """Has the aliases of a model followed.

    Attributes:
        address: `host:port` of the server that serves; empty where it is not known.
    """

    address: str

    def follow(self, name: str) -> dict[str, int]:
        """Have all aliases of a model followed; gives the version of each label then."""

    def await_label(self, name: str, label: str, number: int) -> bool:
        """Whether a label came to point at a version; False where the version was refused."""


class FollowingHere:
    """Reconciles in this process.

    Args:
        reconciler: does it.
        address: the server it speaks to.
    """

    def __init__(self, reconciler: Reconciler, address: str) -> None:
        self._reconciler = reconciler
        self.address = address

    def follow(self, name: str) -> dict[str, int]:
        """Reconcile once."""
        outcome = self._reconciler.reconcile(name)
        for complaint in outcome.complaints:
            LOGGER.warning("%s: %s", name, complaint)
        return dict(outcome.labels)

    def await_label(self, name: str, label: str, number: int) -> bool:
        """Reconcile once, and see."""
        return self.follow(name).get(label) == number


class FollowingElsewhere:
    """Waits for a reconciler that runs beside the model server; the registry's tags say what it did.

    Args:
        registry: the registry that both know.
        address: the server, where it is known.
        seconds: how long to wait.
    """

    def __init__(self, registry: AliasRegistry, address: str, seconds: float) -> None:
        self._registry = registry
        self._seconds = seconds
        self.address = address

    def follow(self, name: str) -> dict[str, int]:
        """Nothing to do here but to see what the labels point at."""
        return _noted(self._registry.wanted(name))

    def await_label(self, name: str, label: str, number: int) -> bool:
        """Wait until the label points at the version, or its alias was set back.

        Raises:
            PublishError: neither happened in time.
        """
        alias = next(alias for alias, of_alias in LABELS.items() if of_alias == label)
        ends = time.monotonic() + self._seconds
        while time.monotonic() < ends:
            wanted = self._registry.wanted(name)
            if _noted(wanted).get(label) == number:
                return True
            if wanted is None or wanted.aliases.get(alias) != number:
                return False
            time.sleep(_LOOK_SECONDS)
        raise PublishError(
            f"{label} of {name} does not answer with version {number} after {self._seconds:g} s, and nothing was said "
            "against it: is `metseg reconcile` running beside the model server?"
        )


def _noted(wanted: Wanted | None) -> dict[str, int]:
    """Version of each label, by the tags that a reconciler wrote to the model."""
    tags = wanted.tags if wanted is not None else {}
    return {label: int(tags[label_tag(label)]) for label in LABELS.values() if label_tag(label) in tags}


@contextmanager
def following(settings: Settings, limits: Limits, registry: AliasRegistry) -> Iterator[Follower]:
    """What follows aliases in the place that the settings describe.

    Raises:
        UsageError: the settings contradict each other.
    """
    if settings.reconciler == "elsewhere":
        yield FollowingElsewhere(registry, settings.model_server, limits.load_seconds + limits.lock_seconds)
        return
    volume = ServingVolume(settings.model_base_path, settings.served_base_path)
    with _server(settings, volume) as address, ServerConnection(address, limits.load_seconds) as server:
        kept = replace(limits, keep_days=version_days())
        yield FollowingHere(Reconciler(registry, volume, server, kept), address)


@contextmanager
def _server(settings: Settings, volume: ServingVolume) -> Iterator[str]:
    """Address of the server that the settings name, else of an embedded one that lives until the block ends."""
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
    """Make a version the champion, and have `stable` answer with it; the one before is `previous` then.

    Raises:
        PublishError: the version was refused; the alias is where it was.
        MetsegError: there is no such version.
    """
    if registry.version(name, number) is None:
        raise MetsegError(f"{name} has no version {number}: `metseg models {name}` lists what there is")
    registry.point(name, CHAMPION, number)
    _awaited(registry, follower, name, CHAMPION, number)
    wanted = registry.wanted(name)
    if wanted is not None and wanted.aliases.get(CHALLENGER) == number:
        registry.point(name, CHALLENGER, None)
        follower.follow(name)
    LOGGER.info("version %d of %s is champion and answers as %s", number, name, LABELS[CHAMPION])


def challenge(registry: AliasRegistry, follower: Follower, name: str, number: int) -> None:
    """Have `canary` answer with a version that is the challenger already, unless it went on to be champion.

    Raises:
        PublishError: the version was refused; the alias is where it was.
    """
    wanted = registry.wanted(name)
    if wanted is not None and wanted.aliases.get(CHAMPION) == number:
        return
    _awaited(registry, follower, name, CHALLENGER, number)
    LOGGER.info("version %d of %s answers as %s", number, name, LABELS[CHALLENGER])


def rollback(registry: AliasRegistry, follower: Follower, name: str) -> int:
    """Make the version champion that was it before, and give its number; a second roll-back leads back again.

    Raises:
        MetsegError: there is no version to go back to.
        PublishError: it was refused; the alias is where it was.
    """
    wanted = registry.wanted(name)
    if wanted is None:
        raise MetsegError(f"the registry holds no model {name}: train one with `metseg run`")
    previous = wanted.aliases.get(PREVIOUS)
    if previous is None:
        raise MetsegError(f"{name} has no version {PREVIOUS}, so there is nothing to go back to")
    promote(registry, follower, name, previous)
    return previous


def _awaited(registry: AliasRegistry, follower: Follower, name: str, alias: str, number: int) -> None:
    if follower.await_label(name, LABELS[alias], number):
        return
    version = registry.version(name, number)
    tags = version.tags if version is not None else {}
    reason = tags.get(REASON_TAG, "no reason is given") if tags.get(SERVING_TAG) == REFUSED else "the alias moved on"
    raise PublishError(f"version {number} of {name} is not served as {LABELS[alias]}: {reason}")
