"""One turn of reconciliation: from a model's aliases to the versions under its labels.

A turn keeps nothing in memory that a later one needs. If a turn is killed, at whichever instruction, the next one
reads the desired state from the registry and the verified versions from the configuration file, and does the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from metseg.errors import VersionRefused
from metseg.serving.client import ModelClient
from metseg.serving.model_config import ServedModel
from metseg.serving.publishing import unpublish
from metseg.serving.reconciliation.reconciliation_limits import ReconcileLimits
from metseg.serving.reconciliation.registry_state import AliasRegistry, DesiredState
from metseg.serving.reconciliation.server_sync import ServerSync
from metseg.serving.reconciliation.serving_volume import REGISTRY, ServingVolume
from metseg.serving.reconciliation.verification import Verifier
from metseg.tracking.model_registry import REFUSED, VERIFIED
from metseg.tracking.serving_labels import CHALLENGER, CHAMPION, LABELS, PREVIOUS

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReconcileResult:
    """State of serving of one model after a turn.

    Attributes:
        served: the model with its loaded versions and their labels.
        complaints: reasons why serving differs from the desired state; none if it does not.
    """

    served: ServedModel
    complaints: tuple[str, ...] = ()

    def __str__(self) -> str:
        labels = ", ".join(f"{label} → {number}" for label, number in sorted(self.served.labels.items(), reverse=True))
        loaded = ", ".join(map(str, self.served.versions))
        state = f"{labels or 'no label'}; loaded: {loaded}" if loaded else "nothing is served"
        return "; ".join((f"{self.served.name}: {state}", *self.complaints))


@dataclass
class Reconciler:
    """Brings serving to the registry's desired state, one model a turn.

    Attributes:
        registry: the MLflow registry.
        volume: the folder shared with the server.
        server: the model server.
        limits: of time and difference.
        beat: called now and then during long work, to show that this process is alive.
    """

    registry: AliasRegistry
    volume: ServingVolume
    server: ModelClient
    limits: ReconcileLimits
    beat: Callable[[], None] = lambda: None
    _contents: dict[tuple[str, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the parts that work on volume and server."""
        self._sync = ServerSync(self.volume, self.server, self.limits.load_seconds, self.beat)
        self._verifier = Verifier(self.registry, self.volume, self.server, self._sync, self.limits.tolerance, self.beat)

    def reconcile(self, name: str) -> ReconcileResult:
        """Serve the versions that a model's aliases point at, if they pass verification.

        A version that fails is tagged with the reason, and its aliases are set back to the served versions.

        Raises:
            Unreachable: the registry does not respond, or another reconciler holds the folder too long.
            ServingError: the server does not respond.
            PublishError: the folder cannot be written.
        """
        with self.volume.exclusive(self.limits.lock_seconds):
            desired = self.registry.desired_state(name)
            served = self.volume.served(name)
            if desired is None:
                return self._withdraw(served)
            turn = _Turn(
                name=name,
                aliases=dict(desired.aliases),
                registry=self.registry,
                volume=self.volume,
                sync=self._sync,
                verifier=self._verifier,
                keep_days=self.limits.keep_days,
                served=replace(served, base_path=self.volume.served_base(name)),
            )
            identity = self.registry.identity()
            turn.run(same_registry=bool(identity) and identity == self.volume.registry)
            self.registry.tag_labels(name, desired.tags, turn.served.labels)
            complaints = (*turn.complaints, *self._foreign_contents(turn.served))
            if not complaints:
                self.volume.record_registry(identity)
            return ReconcileResult(turn.served, complaints)

    def _withdraw(self, served: ServedModel) -> ReconcileResult:
        """Serve a renamed or deleted model no longer.

        It stays if this is another registry than the one that it is from, or an emptied one.
        """
        name = served.name
        if name not in self.volume.of_metseg():
            return ReconcileResult(served, ("it is not in the registry",))
        if not self.registry.lacks(name):
            return ReconcileResult(served, ("the registry contradicts itself: serving stays as it is",))
        if not self.volume.registry or self.registry.identity() != self.volume.registry:
            text = (
                f"it is not in this registry, which is not the one that {self.volume.root} was filled from: serving "
                f"stays as it is. Mend MLFLOW_TRACKING_URI, or remove {REGISTRY} there to accept this registry"
            )
            return ReconcileResult(served, (text,))
        LOGGER.warning("%s was renamed or deleted in the registry: it is served no longer", name)
        for number in served.versions:
            self.volume.mark(name, number)
        withdrawn = replace(served, versions=[], labels={})
        self.volume.write(withdrawn)
        self._sync.apply(withdrawn)
        for number in self.volume.expired(name, self.limits.keep_days):
            unpublish(self.volume.base(name), number)
        return ReconcileResult(withdrawn)

    def settled(self, name: str, desired: DesiredState) -> ReconcileResult | None:
        """Return the state of serving, or None if a turn would change something.

        This compares folder and server with `desired`, without a request to the registry. It takes no lock, so it may
        see another reconciler's turn half done: then a turn is due, and waits for that one.

        Args:
            name: the model.
            desired: its aliases and tags, as they were a moment ago.
        """
        if not self.volume.config.exists():
            return None
        served = self.volume.served(name)
        labels = {label: desired.aliases[alias] for alias, label in LABELS.items() if alias in desired.aliases}
        versions = {desired.aliases[alias] for alias in (*LABELS, PREVIOUS) if alias in desired.aliases}
        as_desired = (
            served.labels == labels
            and set(served.versions) == versions <= set(self.volume.published(name))
            and desired.tagged_labels == {label: str(number) for label, number in labels.items()}
            and bool(self.volume.registry)
            and all(self._contents.get((name, number)) == "" for number in versions)
            and not (self.volume.expired(name, self.limits.keep_days) - versions)
        )
        return ReconcileResult(served) if as_desired and not self._sync.difference(served) else None

    def _foreign_contents(self, served: ServedModel) -> list[str]:
        """Return complaints on served contents that differ from the registry; each version is read once."""
        for number in served.versions:
            if (served.name, number) not in self._contents:
                version = self.registry.version(served.name, number)
                try:
                    if version is not None:
                        self._verifier.publish(served, version)
                    self._contents[served.name, number] = ""
                except VersionRefused as refusal:
                    self._contents[served.name, number] = f"version {number}: {refusal}"
        return [text for number in served.versions if (text := self._contents[served.name, number])]


@dataclass
class _Turn:
    """One turn for one model; `aliases` and `served` follow the changes that it makes."""

    name: str
    aliases: dict[str, int]
    registry: AliasRegistry
    volume: ServingVolume
    sync: ServerSync
    verifier: Verifier
    keep_days: float
    served: ServedModel
    complaints: list[str] = field(default_factory=list)

    def run(self, same_registry: bool) -> None:
        """Do the turn.

        Args:
            same_registry: whether this registry is the one that the served versions are from.
        """
        if same_registry:
            self._withdraw_deleted()
        self._restore()
        for alias in (CHAMPION, CHALLENGER, PREVIOUS):
            self._follow(alias)
        self._remove_unused()

    def _withdraw_deleted(self) -> None:
        """Serve versions no longer that were deleted from the registry."""
        deleted = {number for number in self.served.versions if self.registry.version(self.name, number) is None}
        if not deleted:
            return
        for number in sorted(deleted):
            LOGGER.warning("%s version %d was deleted from the registry: it is served no longer", self.name, number)
            self.volume.mark(self.name, number)
        versions = [number for number in self.served.versions if number not in deleted]
        labels = {label: number for label, number in self.served.labels.items() if number not in deleted}
        self._write(replace(self.served, versions=versions, labels=labels))
        self._apply()

    def _restore(self) -> None:
        """Restore the server to the file, after a restart or a foreign reload."""
        for number in sorted(set(self.served.versions) - set(self.volume.published(self.name))):
            try:
                self.verifier.publish(self.served, self.registry.registered(self.name, number))
            except VersionRefused as refusal:
                self.complaints.append(f"version {number} is gone from {self.volume.base(self.name)}: {refusal}")
        difference = self.sync.difference(self.served)
        if difference:
            LOGGER.info("%s: the server differs from %s (%s): reloading", self.name, self.volume.config, difference)
            self._apply()

    def _follow(self, alias: str) -> None:
        """Serve the version that an alias points at, under the alias's label, if any."""
        number, label = self.aliases.get(alias), LABELS.get(alias)
        current = self.served.labels.get(label) if label else None
        if number is None:
            if alias == CHAMPION and current is not None:
                self.complaints.append(f"no version is {CHAMPION}: {label} stays at version {current}")
            return
        if number == current or (label is None and number in self.served.versions):
            return
        try:
            worst = self.verifier.verify(self.served, number)
        except VersionRefused as refusal:
            self._refuse(number, str(refusal))
            return
        self.registry.tag_version(self.name, number, VERIFIED, f"golden requests differ by at most {worst:.1e}")
        if self._still_desired(alias, number):
            self._serve(number, label, current)

    def _still_desired(self, alias: str, number: int) -> bool:
        """Return whether the alias still points there; a verification may take minutes."""
        desired = self.registry.desired_state(self.name)
        if desired is not None and desired.aliases.get(alias) == number:
            return True
        LOGGER.info("%s: %s moved on from version %d meanwhile", self.name, alias, number)
        return False

    def _serve(self, number: int, label: str | None, current: int | None) -> None:
        """Move a label to a verified version; write the file first, for a restarting server."""
        labels = dict(self.served.labels)
        if label is not None:
            labels[label] = number
        if label == LABELS[CHAMPION] and current is not None:
            self.registry.point(self.name, PREVIOUS, current)
            self.aliases[PREVIOUS] = current
        self._write(replace(self.served, versions=sorted({*self.served.versions, number}), labels=labels))
        self._apply()
        if label is not None:
            LOGGER.info("%s: %s moved from version %s to version %d", self.name, label, current or "none", number)

    def _refuse(self, number: int, reason: str) -> None:
        """Tag a version with the reason, unload it, and set back its aliases."""
        LOGGER.warning("%s version %d is refused: %s", self.name, number, reason)
        self.complaints.append(f"version {number} is refused: {reason}")
        if self.registry.version(self.name, number) is not None:
            self.registry.tag_version(self.name, number, REFUSED, reason)
        if self.served.labels.get(LABELS[CHAMPION]) != number:
            labels = {label: version for label, version in self.served.labels.items() if version != number}
            versions = [version for version in self.served.versions if version != number]
            if versions != self.served.versions:
                self._write(replace(self.served, versions=versions, labels=labels))
            if self.sync.difference(self.served):
                self._apply()
            unpublish(self.volume.base(self.name), number)
        desired = self.registry.desired_state(self.name)
        for alias in (CHAMPION, CHALLENGER, PREVIOUS):
            if desired is not None and desired.aliases.get(alias) == number:
                self._set_back(alias, number)

    def _set_back(self, alias: str, number: int) -> None:
        """Point an alias at the version that is served for it, or remove the alias."""
        before = self.served.labels.get(LABELS.get(alias, ""))
        if before == number:
            return
        self.registry.point(self.name, alias, before)
        if before is None:
            self.aliases.pop(alias, None)
        else:
            self.aliases[alias] = before
        LOGGER.warning("%s: %s is set back to %s", self.name, alias, f"version {before}" if before else "no version")

    def _remove_unused(self) -> None:
        """Serve only the versions of labels and `previous`; remove expired folders of others."""
        labels = dict(self.served.labels)
        if CHALLENGER not in self.aliases:
            labels.pop(LABELS[CHALLENGER], None)
        used = set(labels.values())
        previous = self.aliases.get(PREVIOUS)
        if previous in self.served.versions:
            used.add(previous)
        reduced = replace(self.served, versions=sorted(used), labels=labels)
        if reduced != self.served:
            for number in set(self.served.versions) - used:
                self.volume.mark(self.name, number)
            self._write(reduced)
        if self.sync.difference(self.served):
            self._apply()
        if self.served.versions:
            for number in self.volume.expired(self.name, self.keep_days) - used:
                unpublish(self.volume.base(self.name), number)

    def _write(self, served: ServedModel) -> None:
        self.volume.write(served)
        self.served = served

    def _apply(self) -> None:
        try:
            self.sync.apply(self.served)
        except VersionRefused as refusal:
            # Verified versions that no longer load: the others are served all the same.
            self.complaints.append(str(refusal))
