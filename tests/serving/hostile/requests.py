"""Hostile requests to the model server, made from a seed: all kinds of both APIs come up in turn."""

from __future__ import annotations

import random

from tests.serving.hostile import grpc_requests, rest_requests
from tests.serving.hostile.target import HostileTarget
from tests.serving.hostile.volley import Hostile

KINDS = [
    *((f"gRPC {kind.__name__}", kind) for kind in grpc_requests.KINDS),
    *((f"REST {kind.__name__}", kind) for kind in rest_requests.KINDS),
]


def hostile_requests(count: int, seed: int = 2023, *, slow: bool = True) -> list[Hostile[HostileTarget]]:
    """So many requests; `slow`: with a few among them that send on purpose so slowly that two minutes pass."""
    rng = random.Random(seed)
    found = rest_requests.slow_requests() if slow else []
    for number in range(count - len(found)):
        name, kind = KINDS[number % len(KINDS)]
        right, send = kind(rng)
        found.append(Hostile(f"{number:03d} {name.replace('_', ' ')}", frozenset(right), send))
    return found
