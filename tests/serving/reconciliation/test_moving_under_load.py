"""An alias that is moved changes what `stable` answers within seconds, and no caller notices more than that."""

from __future__ import annotations

import time

from tests.serving.reconciliation.laboratory import Laboratory, answer, reconciling, request
from tests.serving.reconciliation.load import Callers
from tests.serving.server_process import ServerProcess

MOST_SECONDS = 10.0


def test_moved_alias_is_answered_within_ten_seconds_and_no_request_fails(
    laboratory: Laboratory, server: ServerProcess, name: str
) -> None:
    for factor in (0.25, 0.5, 0.75):
        laboratory.register(name, factor)
    laboratory.point(name, "champion", 1)
    image = request(3, side=32)
    expected = {number: answer(image, laboratory.factors[name, number]) for number in (1, 2, 3)}
    with reconciling(laboratory, server, name) as said:
        said.until("stable → 1")
        with Callers(server.address, name, image, expected) as callers:
            # To one that must be published, on to the next, back to `previous`, and to one that was pruned meanwhile.
            for number in (2, 3, 2, 1):
                seconds = callers.seconds_until(
                    number, lambda number=number: laboratory.point(name, "champion", number)
                )
                assert seconds <= MOST_SECONDS
                said.until(f"stable → {number}")
            while callers.heard.answers < 1000:
                time.sleep(0.05)
    assert callers.heard.failed == [] and callers.heard.mixed == []
    assert laboratory.pointed(name) == {"champion": 1, "previous": 2}
