"""Hostile requests, each with the codes that answer it rightly, and what a server makes of many of them at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from benchmarks.processes import Memory

Code = int | str
"""A status of HTTP, 0 where the connection was closed without one; or the name of a status of gRPC."""
Target = TypeVar("Target")

SECONDS = 30.0


@dataclass(frozen=True)
class Hostile(Generic[Target]):
    """One request: `send` gives the code that answered it.

    Attributes:
        slow: it takes its time on purpose.
    """

    name: str
    right: frozenset[Code]
    send: Callable[[Target], Code]
    slow: bool = False


@dataclass
class Volley:
    """What came of many hostile requests.

    Attributes:
        sent: how many.
        wrong: each that was answered by a wrong code.
        unwell: what was wrong with the good request that followed, each time it was.
        slowest: seconds of the slowest answer to a request that was not slow on purpose, and its name.
        rest_mb: resident memory of the server beforehand.
        peak_mb: the most of it.
    """

    sent: int = 0
    wrong: list[str] = field(default_factory=list)
    unwell: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    rest_mb: float = 0.0
    peak_mb: float = 0.0


def fire(
    requests: Sequence[Hostile[Target]], target: Target, process: int, at_once: int, well: Callable[[], str]
) -> Volley:
    """Send them all, so many at once; those that are slow on purpose go beside the others.

    Args:
        requests: what to send.
        target: the server, as `send` takes it.
        process: whose memory counts.
        at_once: senders.
        well: asks a good request; gives what is wrong with the answer, or nothing.
    """
    memory = Memory(process)
    memory.forget_peak()
    volley = Volley(rest_mb=memory.resident_mb())

    def send(one: Hostile[Target]) -> tuple[Hostile[Target], Code, float, str]:
        began = time.monotonic()
        code = one.send(target)
        seconds = time.monotonic() - began
        return one, code, seconds, well()

    slow = [one for one in requests if one.slow]
    with ThreadPoolExecutor(at_once) as senders, ThreadPoolExecutor(max(1, len(slow))) as dawdlers:
        dawdling = [dawdlers.submit(send, one) for one in slow]
        quick = senders.map(send, [one for one in requests if not one.slow])
        for one, code, seconds, complaint in [*quick, *(each.result() for each in dawdling)]:
            volley.sent += 1
            if code not in one.right:
                volley.wrong.append(f"{one.name} got {code}, expected {' or '.join(sorted(map(str, one.right)))}")
            if complaint:
                volley.unwell.append(f"after {one.name}: {complaint}")
            if not one.slow:
                volley.slowest = max(volley.slowest, (seconds, one.name))
    volley.peak_mb = memory.peak_mb()
    return volley


def raw(
    host: str, port: int, sent: bytes, then: Callable[[socket.socket], None] | None = None, patience: float = SECONDS
) -> int:
    """Status that answers bytes on a bare connection; 0 where there is none in so many seconds."""
    with socket.create_connection((host, port), timeout=patience) as line:
        try:
            line.sendall(sent)
            if then is not None:
                then(line)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            answer = line.recv(4096)
        except (ConnectionResetError, TimeoutError):
            return 0
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def dribble(line: socket.socket, content: bytes, pause: float) -> None:
    """Send a byte now and then, until all is sent or an answer comes."""
    patience = line.gettimeout()
    line.settimeout(pause)
    for place in range(len(content)):
        try:
            if line.recv(1, socket.MSG_PEEK):
                break
        except TimeoutError:
            line.sendall(content[place : place + 1])
    line.settimeout(patience)
