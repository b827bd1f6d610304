"""A model server that restarts once the alias is moved does not make a promoted run a failed one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from components.promote.step import _served_response
from metseg.errors import ServerUnavailable
from metseg.serving.client import ModelClient
from metseg.serving.reconciliation.promotion import LocalFollower, promote
from tests.serving.reconciliation.laboratory import Laboratory, answer, request
from tests.serving.server_process import ServerProcess


@contextmanager
def away(server: ServerProcess, seconds: float) -> Iterator[None]:
    """The server is killed, and started again after so many seconds."""
    server.kill()
    back = threading.Timer(seconds, server.start)
    back.start()
    try:
        yield
    finally:
        back.join()


def test_the_answer_is_asked_for_until_the_server_is_back(
    laboratory: Laboratory,
    connection: ModelClient,
    server: ServerProcess,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = laboratory.register(name, 0.5)
    promote(laboratory.aliases, LocalFollower(laboratory.reconciler(connection), connection.address), name, number)
    image = request(3)
    truth = answer(image, 0.5) >= 0.3
    np.savez(tmp_path / "reference.npz", case="a", image=image, probability=answer(image, 0.5), truth=truth)
    with away(server, 4):
        began = time.monotonic()
        with pytest.raises(ServerUnavailable):
            _served_response(server.address, name, tmp_path)
        assert time.monotonic() - began < 4, "a person is told at once"
        monkeypatch.setenv("METSEG_PATIENCE_SECONDS", "90")
        served = _served_response(server.address, name, tmp_path)
    assert served is not None and served.version == number and served.dice == 1.0
