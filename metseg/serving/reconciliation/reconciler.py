"""One turn of reconciliation: from the aliases of a registered model to what its labels answer with.

Nothing of a turn is kept in memory that a later one needs. Whatever instruction a turn is killed at, the next one finds
in the registry what is wanted and in the configuration file what was examined, and does the rest again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from metseg.serving.model_config import ServedModel
from metseg.serving.reconciliation.connection import ServerConnection
from metseg.serving.reconciliation.limits import Limits
from metseg.serving.reconciliation.outcome import Outcome, Refused
from metseg.serving.reconciliation.registry_state import AliasRegistry, Wanted, label_tag
from metseg.serving.reconciliation.server_sync import Steering
from metseg.serving.reconciliation.serving_volume import ServingVolume
from metseg.serving.reconciliation.verification import Admission
from metseg.tracking.model_registry import CHALLENGER, CHAMPION, LABELS, PREVIOUS, REFUSED, VERIFIED

LOGGER = logging.getLogger(__name__)


class Reconciler:
    """Brings what is served to what the registry asks for, one model a turn.

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
        server: ServerConnection,
        limits: Limits,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._volume = volume
        self._limits = limits
        self._steering = Steering(volume, server, limits.load_seconds, beat)
        self._admission = Admission(registry, volume, server, self._steering, limits.tolerance, beat)
        self._contents: dict[tuple[str, int], str] = {}

    def reconcile(self, name: str) -> Outcome:
        """Serve of a model what the registry's aliases point at, as far as it is fit to be served.

        A version that is not fit is tagged with the reason, and its aliases are set back to what is served.

        Raises:
            Unreachable: registry or server do not answer, or another reconciler holds the folder too long.
            PublishError: the folder cannot be written.
        """
        with self._volume.exclusive(self._limits.lock_seconds):
            wanted = self._registry.wanted(name)
            if wanted is None:
                served = self._volume.served(name)
                return _outcome(served, ["it is not in the registry"])
            turn = _Turn(
                name,
                dict(wanted.aliases),
                self._registry,
                self._volume,
                self._steering,
                self._admission,
                self._limits.keep_days,
            )
            served = turn.run()
            self._registry.note_labels(name, wanted.tags, served.labels)
            return _outcome(served, [*turn.complaints, *self._foreign_contents(served)])

    def settled(self, name: str, seen: Wanted) -> Outcome | None:
        """Return what is served where a turn would change nothing; None where one is due.

        Looked at are the folder and the server; the registry is not asked. Without the lock another reconciler's turn
        may be seen half done: then a turn is due, and takes its place behind that one.

        Args:
            name: the model.
            seen: its aliases and tags, as they were a moment ago.
        """
        if not self._volume.config.exists():
            return None
        served = self._volume.served(name)
        labels = {label: seen.aliases[alias] for alias, label in LABELS.items() if alias in seen.aliases}
        noted = {label: seen.tags.get(label_tag(label)) for label in LABELS.values()}
        kept = {*labels.values(), *(number for alias, number in seen.aliases.items() if alias == PREVIOUS)}
        published = set(self._volume.published(name))
        as_asked = (
            dict(served.labels) == labels
            and set(served.versions) == kept <= published
            and noted == {label: str(labels[label]) if label in labels else None for label in LABELS.values()}
            and all(self._contents.get((name, number)) == "" for number in kept)
            and not (self._volume.expired(name, self._limits.keep_days) - kept)
        )
        return _outcome(served, []) if as_asked and not self._steering.differs(served) else None

    def _foreign_contents(self, served: ServedModel) -> list[str]:
        """Complaints of served versions that are not what the registry holds; each is looked at once."""
        for number in served.versions:
            if (served.name, number) not in self._contents:
                version = self._registry.version(served.name, number)
                try:
                    if version is not None:
                        self._admission.publish(served, version)
                    self._contents[served.name, number] = ""
                except Refused as refusal:
                    self._contents[served.name, number] = f"version {number}: {refusal}"
        return [text for number in served.versions if (text := self._contents[served.name, number])]


def _outcome(served: ServedModel, complaints: list[str]) -> Outcome:
    return Outcome(served.name, dict(served.labels), tuple(served.versions), tuple(complaints))


class _Turn:
    """What one turn knows of one model while it goes on; `aliases` follows what the turn writes to the registry."""

    def __init__(
        self,
        name: str,
        aliases: dict[str, int],
        registry: AliasRegistry,
        volume: ServingVolume,
        steering: Steering,
        admission: Admission,
        keep_days: float,
    ) -> None:
        self.complaints: list[str] = []
        self._name = name
        self._aliases = aliases
        self._registry = registry
        self._volume = volume
        self._steering = steering
        self._admission = admission
        self._keep_days = keep_days
        self._served = replace(volume.served(name), base_path=volume.served_base(name))

    def run(self) -> ServedModel:
        """Do all that is to do; gives what is served then."""
        self._restore()
        for alias in (CHAMPION, CHALLENGER, PREVIOUS):
            self._follow(alias)
        self._leave_out_the_rest()
        return self._served

    def _restore(self) -> None:
        """Have the server hold what the file says, for it may have been restarted or told otherwise."""
        published = self._volume.published(self._name)
        for number in self._served.versions:
            if number not in published:
                self._publish_again(number)
        difference = self._steering.differs(self._served)
        if difference:
            LOGGER.info("%s: the server differs from %s (%s): reloading", self._name, self._volume.config, difference)
            self._apply()

    def _publish_again(self, number: int) -> None:
        version = self._registry.version(self._name, number)
        try:
            if version is None:
                raise Refused("it is not in the registry any more")
            self._admission.publish(self._served, version)
        except Refused as refusal:
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
            worst = self._admission.admit(self._served, number)
        except Refused as refusal:
            self._refuse(number, str(refusal))
            return
        self._registry.note(self._name, number, VERIFIED, f"the served golden answers differ by at most {worst:.1e}")
        if self._still_wanted(alias, number):
            self._serve(number, label, current)

    def _still_wanted(self, alias: str, number: int) -> bool:
        """Whether the alias points there now, after an examination that may have taken minutes."""
        wanted = self._registry.wanted(self._name)
        if wanted is not None and wanted.aliases.get(alias) == number:
            return True
        LOGGER.info("%s: %s moved on from version %d meanwhile", self._name, alias, number)
        return False

    def _serve(self, number: int, label: str | None, current: int | None) -> None:
        """Move a label to an examined version; the file goes first, so that a restarted server comes up with it."""
        labels = dict(self._served.labels)
        kept = {*self._served.versions, number}
        if label is not None:
            labels[label] = number
        if label == LABELS[CHAMPION] and current is not None:
            self._registry.point(self._name, PREVIOUS, current)
            self._aliases[PREVIOUS] = current
        self._write(replace(self._served, versions=sorted(kept), labels=labels))
        self._apply()
        if label is not None:
            LOGGER.info("%s: %s moved from version %s to version %d", self._name, label, current or "none", number)

    def _refuse(self, number: int, reason: str) -> None:
        """Tag a version with the reason, take it off the server, and set the aliases that point at it back."""
        LOGGER.warning("%s version %d is refused: %s", self._name, number, reason)
        self.complaints.append(f"version {number} is refused: {reason}")
        if self._registry.version(self._name, number) is not None:
            self._registry.note(self._name, number, REFUSED, reason)
        if self._served.labels.get(LABELS[CHAMPION]) != number:
            labels = {label: version for label, version in self._served.labels.items() if version != number}
            versions = [version for version in self._served.versions if version != number]
            if versions != self._served.versions:
                self._write(replace(self._served, versions=versions, labels=labels))
            if self._steering.differs(self._served):
                self._apply()
            self._volume.unpublish(self._name, number)
        wanted = self._registry.wanted(self._name)
        for alias in (CHAMPION, CHALLENGER, PREVIOUS):
            if wanted is not None and wanted.aliases.get(alias) == number:
                self._set_back(alias, number)

    def _set_back(self, alias: str, number: int) -> None:
        """Point an alias at what is served in its name, or at nothing."""
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

    def _leave_out_the_rest(self) -> None:
        """Serve nothing but what labels and `previous` point at; remove other versions' folders once they expired."""
        labels = dict(self._served.labels)
        if CHALLENGER not in self._aliases:
            labels.pop(LABELS[CHALLENGER], None)
        kept = set(labels.values())
        previous = self._aliases.get(PREVIOUS)
        if previous in self._served.versions:
            kept.add(previous)
        lean = replace(self._served, versions=sorted(kept), labels=labels)
        if lean != self._served:
            for number in set(self._served.versions) - kept:
                self._volume.mark(self._name, number)
            self._write(lean)
        if self._steering.differs(self._served):
            self._apply()
        if self._served.versions:
            for number in self._volume.expired(self._name, self._keep_days) - kept:
                self._volume.unpublish(self._name, number)

    def _write(self, served: ServedModel) -> None:
        self._volume.write(served)
        self._served = served

    def _apply(self) -> None:
        try:
            self._steering.apply(self._served)
        except Refused as refusal:
            # Examined versions that no longer load: the rest is served all the same.
            self.complaints.append(str(refusal))
