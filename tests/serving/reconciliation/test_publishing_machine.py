"""Whatever people do to aliases, and wherever a turn is broken off: what is served was examined, and a turn converges.

Registry, folder and server are real; the server runs in this process, so that starting it again takes no time.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import metseg.serving
from metseg.saved_model_digest import saved_model_digest
from metseg.serving.client import ModelClient
from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.model_server import ModelServer
from metseg.tracking.serving_labels import LABELS
from tests.serving.reconciliation.laboratory import FACTORS, Laboratory, settings_in

pytestmark = pytest.mark.kills
FIT: dict[str, Any] = {}
KINDS = [FIT, FIT, FIT, {"gate": "rejected"}, {"golden": 0.6}, {"digest": "0" * 64}]
LINES = 700
"""More lines than a turn runs through, so that some are not broken off at all."""
_SERVING = str(Path(metseg.serving.__file__).parent)
_NAMES = itertools.count()


class Killed(BaseException):
    """Not an Exception: nothing of ours may catch it."""


@contextmanager
def killed_at(line: int) -> Iterator[None]:
    """Break off before the `line`-th line of ours that is run, however deep; the calling thread alone."""
    seen: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_SERVING):
            return None
        if event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) >= line:
                raise Killed
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    except Killed:
        pass
    finally:
        sys.settrace(before)


class Publishing:
    """Aliases of one model are moved about; `unfit` are the versions that must never be under a label."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = laboratory
        self.name = f"machine-{next(_NAMES)}"
        self.unfit: set[int] = set()
        self.versions = 0
        self.stable: int | None = None
        self._start()

    def _start(self) -> None:
        self.laboratory.volume.prepare()
        options = ServerOptions(
            port=0,
            model_config_file=str(self.laboratory.volume.config),
            allow_version_labels_for_unavailable_models=True,
            max_num_load_retries=0,
        )
        self.server = ModelServer(options)
        self.server.start()
        self.connection = ModelClient(f"127.0.0.1:{self.server.port}", 60, retry_delays=())

    def end(self) -> None:
        self.connection.close()
        self.server.stop(grace=0)

    def register(self, alias: str, kind: dict[str, Any]) -> None:
        """A new version, and an alias on it."""
        self.versions = self.laboratory.register(self.name, FACTORS[self.versions % len(FACTORS)], **kind)
        if kind:
            self.unfit.add(self.versions)
        self.laboratory.point(self.name, alias, self.versions)

    def point(self, alias: str, back: int) -> None:
        """An alias on an earlier version."""
        if self.versions:
            self.laboratory.point(self.name, alias, max(self.versions - back, 1))

    def withdraw(self, alias: str) -> None:
        if self.versions and alias in self.laboratory.pointed(self.name):
            self.laboratory.point(self.name, alias, None)

    def break_off(self, line: int) -> None:
        with killed_at(line):
            self.laboratory.reconciler(self.connection).reconcile(self.name)

    def restart_server(self) -> None:
        self.end()
        self._start()

    def reconcile(self) -> None:
        """A whole turn, after which everything is as asked, or as it was where that is unfit."""
        if not self.versions:
            return
        asked, before = self.laboratory.pointed(self.name), self.labels()
        outcome = self.laboratory.reconciler(self.connection).reconcile(self.name)
        now, after = self.laboratory.pointed(self.name), self.labels()
        for alias, label in LABELS.items():
            wanted = asked.get(alias)
            if wanted is None:
                expected = before[label] if label == "stable" else None
            else:
                expected = before[label] if wanted in self.unfit else wanted
            assert after[label] == expected, (alias, asked, before)
            assert now.get(alias) == (None if wanted is None else expected), (alias, asked, before)
        if before["stable"] not in (None, after["stable"]):
            assert now["previous"] == before["stable"]
        elif asked.get("previous") not in self.unfit:
            assert now.get("previous") == asked.get("previous")
        self._check_what_is_kept({*after.values(), now.get("previous")} - {None})
        for number in set(asked.values()) & self.unfit:
            if asked.get("previous") != number or now.get("previous") is None:
                assert self.laboratory.tags(self.name, number)["serving"] == "refused"
        again = self.laboratory.reconciler(self.connection).reconcile(self.name)
        assert again.served == outcome.served

    def _check_what_is_kept(self, kept: set[int | None]) -> None:
        assert self.connection.available(self.name) == kept
        if kept:
            assert set(self.laboratory.volume.published(self.name)) == kept

    def labels(self) -> dict[str, int | None]:
        return {label: self.connection.labelled_version(self.name, label) for label in LABELS.values()}

    def check(self) -> None:
        """What holds at any time."""
        labels = self.labels()
        assert not set(labels.values()) & self.unfit
        assert labels["stable"] is not None or self.stable is None, "stable is never taken away"
        self.stable = labels["stable"]
        volume = self.laboratory.volume
        for number in volume.published(self.name):
            registered = self.laboratory.saved_models[self.laboratory.factors[self.name, number]]
            assert saved_model_digest(volume.base(self.name) / str(number)) == saved_model_digest(registered)
        served = volume.served(self.name)
        assert set(served.labels.values()) <= set(served.versions) <= set(volume.published(self.name))
        assert not set(served.versions) & self.unfit


NEW = st.tuples(st.just("register"), st.sampled_from(["champion", "champion", "challenger"]), st.sampled_from(KINDS))
OLD = st.tuples(st.just("point"), st.sampled_from(["champion", "challenger", "previous"]), st.integers(0, 4))
WITHDRAWN = st.tuples(st.just("withdraw"), st.sampled_from(["champion", "challenger"]))
BROKEN_OFF = st.tuples(st.just("break_off"), st.integers(1, LINES))
RESTARTED = st.just(("restart_server",))
WHOLE = st.just(("reconcile",))
ACTION = st.one_of(NEW, NEW, OLD, WITHDRAWN, BROKEN_OFF, BROKEN_OFF, RESTARTED, WHOLE, WHOLE)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, laboratory: Laboratory) -> Laboratory:
    """The laboratory's registry, with another folder of published models."""
    return laboratory.within(settings_in(tmp_path_factory.mktemp("machine")).model_base_path)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # making a failure smaller would take minutes
    suppress_health_check=list(HealthCheck),
)
@given(actions=st.lists(ACTION, min_size=10, max_size=14))
def test_publishing_converges_from_anywhere(apart: Laboratory, actions: list[tuple[Any, ...]]) -> None:
    publishing = Publishing(apart)
    try:
        for name, *arguments in [*actions, ("reconcile",)]:
            getattr(publishing, name)(*arguments)
            publishing.check()
    finally:
        publishing.end()
