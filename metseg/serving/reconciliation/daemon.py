"""The reconciliation daemon: turns at an interval, with longer pauses during an outage."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from metseg.errors import MetsegError, PublishError, ServingError, Unreachable
from metseg.files import written_beside
from metseg.message_text import printable
from metseg.serving.reconciliation.reconciler import Reconciler, ReconcileResult
from metseg.serving.reconciliation.registry_state import AliasRegistry, DesiredState

LOGGER = logging.getLogger(__name__)

LONGEST_PAUSE = 15.0
"""Most seconds between two turns during an outage."""
_REGISTRY = "the list of models"


@dataclass
class Health:
    """A file that is rewritten while this process is alive, for a liveness probe.

    Attributes:
        path: the file; None: nothing is written.
        state: the last reported state.
    """

    path: Path | None
    state: str = "starting"

    def beat(self) -> None:
        """Write that this process is alive, with the last reported state."""
        self.report(self.state)

    def report(self, state: str) -> None:
        """Write that this process is alive, and a new state."""
        self.state = state
        if self.path is None:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with written_beside(self.path) as temporary:
            temporary.write_text(json.dumps({"time": now, "state": state}) + "\n", encoding="utf-8")


@dataclass
class Loop:
    """Reconciles the named models, or all that metseg registered.

    Attributes:
        registry: the MLflow registry.
        reconciler: does one turn.
        names: the models; none: all of metseg's.
        health: gets the state after every turn.
    """

    registry: AliasRegistry
    reconciler: Reconciler
    names: Sequence[str]
    health: Health
    _reported: dict[str, str] = field(default_factory=dict)
    _waiting: set[str] = field(default_factory=set)

    def turn(self) -> bool:
        """Reconcile every model once; return whether serving is in the desired state."""
        try:
            desired = self.registry.models(self.names)
            served = self.reconciler.volume.of_metseg()
        except (Unreachable, PublishError) as error:
            self._report(_REGISTRY, str(error), outage=True)
            return False
        names = self.names or [*sorted(desired), *sorted(served - desired.keys())]
        self._report(_REGISTRY, "" if names else "no model is registered yet")
        reached = [self._reconcile(name, desired.get(name)) for name in names]
        self.health.report("; ".join(self._reported.get(name, "") for name in names) or "nothing to do")
        return all(reached) and bool(names)

    def run(
        self,
        interval: float,
        pause: Callable[[float], None] = time.sleep,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Repeat turns until stopped.

        Args:
            interval: seconds between two turns; they double, up to `LONGEST_PAUSE`, during an outage.
            pause: waits for a number of seconds.
            stopped: whether to end before the next turn.
        """
        seconds = interval
        while not stopped():
            self.turn()
            seconds = min(2 * seconds, max(LONGEST_PAUSE, interval)) if self._waiting else interval
            pause(seconds)

    def _reconcile(self, name: str, desired: DesiredState | None) -> bool:
        """Reconcile a model, unless it is settled; return whether it is in the desired state."""
        try:
            settled = self.reconciler.settled(name, desired) if desired is not None else None
            result: ReconcileResult = settled or self.reconciler.reconcile(name)
        except (Unreachable, PublishError, ServingError) as error:
            self._report(name, f"{name}: {error}", outage=True)
            return False
        except MetsegError as error:
            self._report(name, str(error))
            return False
        self._report(name, str(result))
        return not result.complaints

    def _report(self, subject: str, text: str, *, outage: bool = False) -> None:
        """Log the state of a model or of the registry, if it changed."""
        text = printable(text)
        if outage:
            self._waiting.add(subject)
            text = f"{text}; waiting"
            self.health.report(text)
        else:
            self._waiting.discard(subject)
        if text != self._reported.get(subject, ""):
            if text:
                LOGGER.info("%s", text)
            self._reported[subject] = text
