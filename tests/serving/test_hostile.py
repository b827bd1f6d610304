"""Hostile requests of every kind to the model server, as a process; `python -m benchmarks.hostile` sends 500."""

from __future__ import annotations

import os
from pathlib import Path

from tests.serving.callers.models import MODEL
from tests.serving.hostile.requests import KINDS, hostile_requests
from tests.serving.hostile.target import hostile_config, target
from tests.serving.hostile.volley import Hostile, fire

AT_ONCE = 4
MOST_MEMORY_MB = 2048


def test_every_kind_gets_its_code_and_valid_requests_succeed(
    saved_models: dict[int, Path], published: Path, tmp_path: Path
) -> None:
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    (tiny / "1").symlink_to(saved_models[1])
    config = hostile_config(tmp_path / "models.config", tiny, published.parent / MODEL)
    with target(config) as server:
        requests = hostile_requests(len(KINDS) + 7, seed=3, slow=False)
        volley = fire(requests, server, server.process.pid, AT_ONCE, server.complaint)
        assert server.process.poll() is None
        said = server.said.lines
    assert volley.wrong == [] and volley.unwell == []
    assert volley.sent == len(requests) >= 60
    assert volley.peak_mb < MOST_MEMORY_MB
    assert not [line for line in said if "unexpected error" in line]


def test_a_wrong_code_and_a_failing_server_are_reported() -> None:
    requests = [Hostile(name, frozenset({400}), lambda code: code) for name in ("first", "second")]
    volley = fire(requests, 500, os.getpid(), 1, lambda: "it is ill")
    assert volley.wrong == ["first got 500, expected 400", "second got 500, expected 400"]
    assert volley.unwell == ["after first: it is ill", "after second: it is ill"]
