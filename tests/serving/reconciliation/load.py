"""Callers that ask `stable` without a pause while aliases are moved: who answered, and how soon the new version did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from tests.serving.reconciliation.laboratory import stub_of


@dataclass
class Heard:
    """What the callers heard.

    Attributes:
        answers: how many answers came.
        failed: status and text of every request that failed.
        mixed: answers that are not the answer of the version that they name.
        first: when each version was heard for the first time since `forget`, by the monotonic clock.
    """

    answers: int = 0
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    first: dict[int, float] = field(default_factory=dict)


class Callers:
    """Threads that ask one model's `stable`, each on a channel of its own, until the block ends.

    Args:
        address: the model server.
        name: the model.
        image: the volume they send.
        expected: the answer of each version that may be heard.
        threads: how many at once.
        tolerance: largest difference of an answer's probability from the version's.
    """

    def __init__(
        self,
        address: str,
        name: str,
        image: NDArray[np.float32],
        expected: Mapping[int, NDArray[np.float32]],
        threads: int = 4,
        tolerance: float = 1e-6,
    ) -> None:
        self.heard = Heard()
        self._address, self._name, self._image = address, name, image
        self._expected, self._tolerance = expected, tolerance
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        with stub_of(self._address) as ask:
            while not self._end.is_set():
                try:
                    version, probability = ask(self._name, "stable", self._image)
                except grpc.RpcError as error:
                    with self._lock:
                        self.heard.failed.append(f"{error.code()}: {error.details()}")
                    continue
                except AssertionError as error:
                    with self._lock:
                        self.heard.mixed.append(str(error))
                    continue
                self._hear(version, probability)

    def _hear(self, version: int, probability: NDArray[np.float32]) -> None:
        expected = self._expected.get(version)
        right = expected is not None and np.allclose(probability, expected, rtol=0, atol=self._tolerance)
        with self._lock:
            self.heard.answers += 1
            self.heard.first.setdefault(version, time.monotonic())
            if not right:
                self.heard.mixed.append(f"as version {version}")

    def first_heard(self, version: int, timeout: float = 60) -> float:
        """When a version answered for the first time since `forget`, by the monotonic clock; waits for it."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            with self._lock:
                if version in self.heard.first:
                    return self.heard.first[version]
            time.sleep(0.01)
        raise AssertionError(f"stable did not answer as version {version} in {timeout:g} s: {self.heard}")

    def forget(self) -> None:
        """Forget when versions were heard for the first time."""
        with self._lock:
            self.heard.first.clear()

    def seconds_until(self, version: int, act: Callable[[], Any]) -> float:
        """Seconds from an act until the first answer of a version."""
        self.forget()
        began = time.monotonic()
        act()
        return self.first_heard(version) - began
