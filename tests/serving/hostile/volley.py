"""Hostile requests with their right codes, and the behaviour of a server under many of them at once."""

from __future__ import annotations

import re
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
    """One request: `send` returns the code of its response.

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
        wrong: the requests with a wrong code.
        unwell: failures of the valid requests that followed.
        slowest: seconds of the slowest response, requests slow on purpose aside, and its name.
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
    """Send all requests, several at once; those that are slow on purpose run in parallel.

    Args:
        requests: what to send.
        target: the server, as `send` takes it.
        process: whose memory counts.
        at_once: senders.
        well: asks a valid request; gives what is wrong with the response, or nothing.
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
    """Return the status of bytes on a bare connection; 0 if there is none in time."""
    with socket.create_connection((host, port), timeout=patience) as line:
        try:
            line.sendall(sent)
            if then is not None:
                then(line)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            response = line.recv(4096)
        except (ConnectionResetError, TimeoutError):
            return 0
    return int(response.split(b" ", 2)[1]) if response.startswith(b"HTTP/1.1 ") else 0


def only_status(host: str, port: int, sent: bytes) -> Code:
    """Return the status of the one response before the server closes the connection, or what came instead."""
    received = b""
    with socket.create_connection((host, port), timeout=SECONDS) as line:
        line.sendall(sent)
        try:
            while block := line.recv(65536):
                received += block
        except TimeoutError:
            return "still open"
    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", received)
    return int(statuses[0]) if len(statuses) == 1 else f"{len(statuses)} responses"


def dribble(line: socket.socket, content: bytes, pause: float) -> None:
    """Send a byte now and then, until all is sent or a response arrives."""
    patience = line.gettimeout()
    line.settimeout(pause)
    for place in range(len(content)):
        try:
            if line.recv(1, socket.MSG_PEEK):
                break
        except TimeoutError:
            line.sendall(content[place : place + 1])
    line.settimeout(patience)
