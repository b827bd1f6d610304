"""The reconciliation daemon: turns at an interval, one log line a change, longer pauses during an outage."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from metseg.errors import PublishError, ServingError, Unreachable
from metseg.files import written_beside
from metseg.serving.reconciliation.reconciler import Reconciler, ReconcileResult
from metseg.serving.reconciliation.registry_state import AliasRegistry, DesiredState

LOGGER = logging.getLogger(__name__)

LONGEST_PAUSE = 15.0
"""Most seconds between two turns during an outage."""
_REGISTRY = "the list of models"


class Health:
    """A file that is rewritten while this process is alive, for a liveness probe.

    Args:
        path: the file; None: nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._state = "starting"

    def beat(self) -> None:
        """Write that this process is alive, with the last reported state."""
        self.report(self._state)

    def report(self, state: str) -> None:
        """Write that this process is alive, and a new state."""
        self._state = state
        if self._path is None:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with written_beside(self._path) as temporary:
            temporary.write_text(json.dumps({"time": now, "state": state}) + "\n", encoding="utf-8")


class Loop:
    """Reconciles the named models, or all that metseg registered.

    Args:
        registry: the MLflow registry.
        reconciler: does one turn.
        names: the models; none: all of metseg's.
        health: gets the state after every turn.
    """

    def __init__(self, registry: AliasRegistry, reconciler: Reconciler, names: Sequence[str], health: Health) -> None:
        self._registry = registry
        self._reconciler = reconciler
        self._names = list(names)
        self._health = health
        self._reported: dict[str, str] = {}
        self._waiting: set[str] = set()

    def turn(self) -> bool:
        """Reconcile every model once; return whether serving is in the desired state."""
        try:
            desired = self._registry.models(self._names)
        except Unreachable as error:
            self._wait(_REGISTRY, str(error))
            return False
        names = self._names or sorted(desired)
        self._report(_REGISTRY, "" if names else "no model is registered yet")
        reached = [self._reconcile(name, desired.get(name)) for name in names]
        self._health.report("; ".join(self._reported.get(name, "") for name in names) or "nothing to do")
        return all(reached) and bool(names)

    def run(self, interval: float, pause: Callable[[float], None] = time.sleep) -> None:
        """Repeat turns for ever.

        Args:
            interval: seconds between two turns; they double, up to `LONGEST_PAUSE`, during an outage.
            pause: waits for a number of seconds.
        """
        seconds = interval
        while True:
            self.turn()
            seconds = min(2 * seconds, max(LONGEST_PAUSE, interval)) if self._waiting else interval
            pause(seconds)

    def _reconcile(self, name: str, desired: DesiredState | None) -> bool:
        """Reconcile a model, unless it is settled; return whether it is in the desired state."""
        try:
            settled = self._reconciler.settled(name, desired) if desired is not None else None
            result: ReconcileResult = settled or self._reconciler.reconcile(name)
        except (Unreachable, PublishError, ServingError) as error:
            self._wait(name, f"{name}: {error}")
            return False
        self._report(name, str(result))
        return not result.complaints

    def _wait(self, subject: str, text: str) -> None:
        """Report an outage."""
        self._waiting.add(subject)
        self._log(subject, f"{text}; waiting")
        self._health.report(f"{text}; waiting")

    def _report(self, subject: str, text: str) -> None:
        """Report a state without an outage."""
        self._waiting.discard(subject)
        self._log(subject, text)

    def _log(self, subject: str, text: str) -> None:
        if text != self._reported.get(subject, ""):
            if text:
                LOGGER.info("%s", text)
            self._reported[subject] = text
