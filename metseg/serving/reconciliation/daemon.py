"""Reconciling again and again: one line a change, longer pauses while something does not answer."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from metseg.errors import PublishError, ServingError
from metseg.files import written_beside
from metseg.serving.reconciliation.outcome import Outcome, Unreachable
from metseg.serving.reconciliation.reconciler import Reconciler
from metseg.serving.reconciliation.registry_state import AliasRegistry, Wanted

LOGGER = logging.getLogger(__name__)

LONGEST_PAUSE = 15.0
"""Seconds between two tries at most, while something does not answer."""
_REGISTRY = "the list of models"


class Health:
    """A file whose age says how long ago this process did something, for a liveness probe.

    Args:
        path: the file; nothing is written where none is given.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._said = "starting"

    def beat(self) -> None:
        """Say that this process is alive."""
        self.say(self._said)

    def say(self, state: str) -> None:
        """Say so, and how things stand."""
        self._said = state
        if self._path is None:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with written_beside(self._path) as beside:
            beside.write_text(json.dumps({"time": now, "state": state}) + "\n", encoding="utf-8")


class Loop:
    """Reconciles the models it is told of, or all that metseg registered.

    Args:
        registry: the MLflow registry.
        reconciler: does one turn.
        names: models to look after; all of metseg's where none is named.
        health: told after every turn.
    """

    def __init__(self, registry: AliasRegistry, reconciler: Reconciler, names: Sequence[str], health: Health) -> None:
        self._registry = registry
        self._reconciler = reconciler
        self._names = list(names)
        self._health = health
        self._said: dict[str, str] = {}
        self._waiting: set[str] = set()

    def turn(self) -> bool:
        """Reconcile every model once; whether all that is asked for is served."""
        try:
            seen = self._registry.models(self._names)
        except Unreachable as error:
            self._wait(_REGISTRY, str(error))
            return False
        names = self._names or sorted(seen)
        self._found(_REGISTRY, "" if names else "no model is registered yet")
        reached = [self._reconcile(name, seen.get(name)) for name in names]
        self._health.say("; ".join(self._said.get(name, "") for name in names) or "nothing to do")
        return all(reached) and bool(names)

    def run(self, interval: float, pause: Callable[[float], None] = time.sleep) -> None:
        """Go on for ever.

        Args:
            interval: seconds between two turns; they double, up to `LONGEST_PAUSE`, while something does not answer.
            pause: waits so many seconds.
        """
        seconds = interval
        while True:
            self.turn()
            seconds = min(2 * seconds, max(LONGEST_PAUSE, interval)) if self._waiting else interval
            pause(seconds)

    def _reconcile(self, name: str, seen: Wanted | None) -> bool:
        """Reconcile a model, unless all is as the registry was seen to ask; whether it is then."""
        try:
            settled = self._reconciler.settled(name, seen) if seen is not None else None
            outcome: Outcome = settled or self._reconciler.reconcile(name)
        except (Unreachable, PublishError, ServingError) as error:
            self._wait(name, f"{name}: {error}")
            return False
        self._found(name, str(outcome))
        return not outcome.complaints

    def _wait(self, what: str, text: str) -> None:
        self._waiting.add(what)
        self._say(what, f"{text}; waiting")
        self._health.say(f"{text}; waiting")

    def _found(self, what: str, text: str) -> None:
        self._waiting.discard(what)
        self._say(what, text)

    def _say(self, what: str, text: str) -> None:
        if text != self._said.get(what, ""):
            if text:
                LOGGER.info("%s", text)
            self._said[what] = text
