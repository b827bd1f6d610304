"""One turn of reconciliation: from the aliases of a registered model to the versions under its labels.

A turn keeps nothing in memory that a later one needs. If a turn is killed, at whichever instruction, the next one
reads the desired state from the registry and the verified versions from the configuration file, and does the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from metseg.errors import VersionRefused
from metseg.serving.client import ModelClient
from metseg.serving.model_config import ServedModel
from metseg.serving.reconciliation.limits import ReconcileLimits
from metseg.serving.reconciliation.registry_state import AliasRegistry, DesiredState, label_tag
from metseg.serving.reconciliation.server_sync import ServerSync
from metseg.serving.reconciliation.serving_volume import ServingVolume
from metseg.serving.reconciliation.verification import Verifier
from metseg.tracking.model_registry import CHALLENGER, CHAMPION, LABELS, PREVIOUS, REFUSED, VERIFIED

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReconcileResult:
    """State of serving of one model after a turn.

    Attributes:
        name: the model.
        labels: version of each label.
        versions: loaded versions in ascending order.
        complaints: reasons why serving differs from the desired state; none if it does not.
    """

    name: str
    labels: Mapping[str, int] = field(default_factory=dict)
    versions: tuple[int, ...] = ()
    complaints: tuple[str, ...] = ()

    @classmethod
    def of(cls, served: ServedModel, complaints: list[str]) -> ReconcileResult:
        """Return the result for a model of the configuration file."""
        return cls(served.name, dict(served.labels), tuple(served.versions), tuple(complaints))

    def __str__(self) -> str:
        labels = ", ".join(f"{label} → {version}" for label, version in sorted(self.labels.items(), reverse=True))
        loaded = ", ".join(map(str, self.versions))
        served = f"{labels or 'no label'}; loaded: {loaded}" if self.versions else "nothing is served"
        return "; ".join((f"{self.name}: {served}", *self.complaints))


class Reconciler:
    """Brings serving to the registry's desired state, one model a turn.

    Args:
        registry: the MLflow registry.
        volume: the folder shared with the server.
        server: the model server.
        limits: of time and difference.
        beat: called now and then during long work, to show that this process is alive.
    """

    def __init__(
        self,
        registry: AliasRegistry,
        volume: ServingVolume,
        server: ModelClient,
        limits: ReconcileLimits,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._volume = volume
        self._limits = limits
        self._sync = ServerSync(volume, server, limits.load_seconds, beat)
        self._verifier = Verifier(registry, volume, server, self._sync, limits.tolerance, beat)
        self._contents: dict[tuple[str, int], str] = {}

    def reconcile(self, name: str) -> ReconcileResult:
        """Serve the versions of a model that the registry's aliases point at, if they pass verification.

        A version that fails is tagged with the reason, and its aliases are set back to the served versions.

        Raises:
            Unreachable: the registry does not respond, or another reconciler holds the folder too long.
            ServingError: the server does not respond.
            PublishError: the folder cannot be written.
        """
        with self._volume.exclusive(self._limits.lock_seconds):
            desired = self._registry.desired_state(name)
            if desired is None:
                served = self._volume.served(name)
                return ReconcileResult.of(served, ["it is not in the registry"])
            turn = _Turn(
                name,
                dict(desired.aliases),
                self._registry,
                self._volume,
                self._sync,
                self._verifier,
                self._limits.keep_days,
            )
            served = turn.run()
            self._registry.tag_labels(name, desired.tags, served.labels)
            return ReconcileResult.of(served, [*turn.complaints, *self._foreign_contents(served)])

    def settled(self, name: str, desired: DesiredState) -> ReconcileResult | None:
        """Return the state of serving if a turn would change nothing; None if a turn is due.

        This compares folder and server with `desired`, without a request to the registry. It takes no lock, so it may
        see another reconciler's turn half done: then a turn is due, and waits for that one.

        Args:
            name: the model.
            desired: its aliases and tags, as they were a moment ago.
        """
        if not self._volume.config.exists():
            return None
        served = self._volume.served(name)
        aliases = desired.aliases
        labels = {label: aliases[alias] for alias, label in LABELS.items() if alias in aliases}
        tags = {label: desired.tags.get(label_tag(label)) for label in LABELS.values()}
        versions = {*labels.values(), *(number for alias, number in aliases.items() if alias == PREVIOUS)}
        published = set(self._volume.published(name))
        as_desired = (
            dict(served.labels) == labels
            and set(served.versions) == versions <= published
            and tags == {label: str(labels[label]) if label in labels else None for label in LABELS.values()}
            and all(self._contents.get((name, number)) == "" for number in versions)
            and not (self._volume.expired(name, self._limits.keep_days) - versions)
        )
        return ReconcileResult.of(served, []) if as_desired and not self._sync.difference(served) else None

    def _foreign_contents(self, served: ServedModel) -> list[str]:
        """Return complaints on served versions whose contents differ from the registry; each version is read once."""
        for number in served.versions:
            if (served.name, number) not in self._contents:
                version = self._registry.version(served.name, number)
                try:
                    if version is not None:
                        self._verifier.publish(served, version)
                    self._contents[served.name, number] = ""
                except VersionRefused as refusal:
                    self._contents[served.name, number] = f"version {number}: {refusal}"
        return [text for number in served.versions if (text := self._contents[served.name, number])]


class _Turn:
    """One turn for one model; `aliases` follows the turn's changes to the registry."""

    def __init__(
        self,
        name: str,
        aliases: dict[str, int],
        registry: AliasRegistry,
        volume: ServingVolume,
        sync: ServerSync,
        verifier: Verifier,
        keep_days: float,
    ) -> None:
        self.complaints: list[str] = []
        self._name = name
        self._aliases = aliases
        self._registry = registry
        self._volume = volume
        self._sync = sync
        self._verifier = verifier
        self._keep_days = keep_days
        self._served = replace(volume.served(name), base_path=volume.served_base(name))

    def run(self) -> ServedModel:
        """Do the turn; return the model as it is served afterwards."""
        self._restore()
        for alias in (CHAMPION, CHALLENGER, PREVIOUS):
            self._follow(alias)
        self._remove_unused()
        return self._served

    def _restore(self) -> None:
        """Bring the server back to the file: it may have been restarted, or reloaded by another client."""
        published = self._volume.published(self._name)
        for number in self._served.versions:
            if number not in published:
                self._publish_again(number)
        difference = self._sync.difference(self._served)
        if difference:
            LOGGER.info("%s: the server differs from %s (%s): reloading", self._name, self._volume.config, difference)
            self._apply()

    def _publish_again(self, number: int) -> None:
        version = self._registry.version(self._name, number)
        try:
            if version is None:
                raise VersionRefused("it is no longer in the registry")
            self._verifier.publish(self._served, version)
        except VersionRefused as refusal:
            self.complaints.append(f"version {number} is gone from {self._volume.base(self._name)}: {refusal}")

    def _follow(self, alias: str) -> None:
        """Serve the version that an alias points at, under the alias's label if it has one."""
        number, label = self._aliases.get(alias), LABELS.get(alias)
        current = self._served.labels.get(label) if label else None
        if number is None:
            if alias == CHAMPION and current is not None:
                self.complaints.append(f"no version is {CHAMPION}: {label} stays at version {current}")
            return
        if number == current or (label is None and number in self._served.versions):
            return
        try:
            worst = self._verifier.verify(self._served, number)
        except VersionRefused as refusal:
            self._refuse(number, str(refusal))
            return
        self._registry.tag_version(self._name, number, VERIFIED, f"golden requests differ by at most {worst:.1e}")
        if self._still_desired(alias, number):
            self._serve(number, label, current)

    def _still_desired(self, alias: str, number: int) -> bool:
        """Return whether the alias still points there, after a verification that may have taken minutes."""
        desired = self._registry.desired_state(self._name)
        if desired is not None and desired.aliases.get(alias) == number:
            return True
        LOGGER.info("%s: %s moved on from version %d meanwhile", self._name, alias, number)
        return False

    def _serve(self, number: int, label: str | None, current: int | None) -> None:
        """Move a label to a verified version; write the file first, so that a restarted server starts with it."""
        labels = dict(self._served.labels)
        if label is not None:
            labels[label] = number
        if label == LABELS[CHAMPION] and current is not None:
            self._registry.point(self._name, PREVIOUS, current)
            self._aliases[PREVIOUS] = current
        self._write(replace(self._served, versions=sorted({*self._served.versions, number}), labels=labels))
        self._apply()
        if label is not None:
            LOGGER.info("%s: %s moved from version %s to version %d", self._name, label, current or "none", number)

    def _refuse(self, number: int, reason: str) -> None:
        """Tag a version with the reason, remove it from the server, and set back the aliases that point at it."""
        LOGGER.warning("%s version %d is refused: %s", self._name, number, reason)
        self.complaints.append(f"version {number} is refused: {reason}")
        if self._registry.version(self._name, number) is not None:
            self._registry.tag_version(self._name, number, REFUSED, reason)
        if self._served.labels.get(LABELS[CHAMPION]) != number:
            labels = {label: version for label, version in self._served.labels.items() if version != number}
            versions = [version for version in self._served.versions if version != number]
            if versions != self._served.versions:
                self._write(replace(self._served, versions=versions, labels=labels))
            if self._sync.difference(self._served):
                self._apply()
            self._volume.unpublish(self._name, number)
        desired = self._registry.desired_state(self._name)
        for alias in (CHAMPION, CHALLENGER, PREVIOUS):
            if desired is not None and desired.aliases.get(alias) == number:
                self._set_back(alias, number)

    def _set_back(self, alias: str, number: int) -> None:
        """Point an alias at the version that is served for it, or remove the alias."""
        label = LABELS.get(alias)
        before = self._served.labels.get(label) if label else None
        if before == number:
            return
        self._registry.point(self._name, alias, before)
        if before is None:
            self._aliases.pop(alias, None)
        else:
            self._aliases[alias] = before
        LOGGER.warning("%s: %s is set back to %s", self._name, alias, f"version {before}" if before else "no version")

    def _remove_unused(self) -> None:
        """Serve only the versions of labels and `previous`; remove the folders of others once they expired."""
        labels = dict(self._served.labels)
        if CHALLENGER not in self._aliases:
            labels.pop(LABELS[CHALLENGER], None)
        used = set(labels.values())
        previous = self._aliases.get(PREVIOUS)
        if previous in self._served.versions:
            used.add(previous)
        reduced = replace(self._served, versions=sorted(used), labels=labels)
        if reduced != self._served:
            for number in set(self._served.versions) - used:
                self._volume.mark(self._name, number)
            self._write(reduced)
        if self._sync.difference(self._served):
            self._apply()
        if self._served.versions:
            for number in self._volume.expired(self._name, self._keep_days) - used:
                self._volume.unpublish(self._name, number)

    def _write(self, served: ServedModel) -> None:
        self._volume.write(served)
        self._served = served

    def _apply(self) -> None:
        try:
            self._sync.apply(self._served)
        except VersionRefused as refusal:
            # Verified versions that no longer load: the others are served all the same.
            self.complaints.append(str(refusal))
