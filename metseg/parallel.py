"""Cases worked on side by side, results in order, never more in memory than there are workers for."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from metseg.errors import MetsegError

Item = TypeVar("Item")
Result = TypeVar("Result")

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
FEW = 3
"""Items for each worker that are worth forking processes for."""

AHEAD = 2
"""Items for each worker that are under way or done and not yet taken."""


def usable_cores() -> int:
    """Cores that this process may use: `METSEG_WORKERS`, else its affinity, else what its container is allowed.

    Raises:
        UsageError: `METSEG_WORKERS` is no positive whole number.
    """
    from metseg.resource_settings import ResourceSettings

    if workers := ResourceSettings.from_environment().workers:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        allowed = cores if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        allowed = cores
    return min(cores, allowed)


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """`work(item)` of every item, in order, in processes that are forked from this one; the first error ends it.

    For work that is much Python, where threads would wait for one another. A process with threads of its own must not
    fork: there, and where a system has no safe fork, the work is done in threads. A few items are worked on here.

    Args:
        work: called with one item; what it gives can be pickled.
        items: what to work on.
        workers: how many at a time.

    Raises:
        MetsegError: a process was killed.
    """
    if workers == 1 or len(items) < FEW * workers:
        yield from map(work, items)
        return
    if sys.platform != "linux" or threading.active_count() > 1:
        yield from in_threads(work, items, workers)
        return
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # OpenCV's own threads do not survive a fork, and a child would wait for them
    inherited = _Inherited(work, items)
    _INHERITED.append(inherited)
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
            yield from _results(pool, _inherited, range(len(items)), workers)
    except BrokenProcessPool as error:
        raise MetsegError(
            "A process that read cases was killed, most likely for want of memory. Give the step more, or set "
            "METSEG_WORKERS=1."
        ) from error
    finally:
        _INHERITED.remove(inherited)
        cv2.setNumThreads(threads)


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`work(item)` of every item, in order, in threads; the first error ends it.

    For work that is NumPy, OpenCV and files, which give up the interpreter's lock.

    Args:
        work: called with one item.
        items: what to work on.
        workers: how many at a time.
    """
    if workers == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers, initializer=_same_pixels) as pool:
        yield from _results(pool, work, items, workers)


def _same_pixels() -> None:
    """Turn Intel's IPP off in this thread, as `metseg.imaging.preprocessing.resize` does: OpenCV keeps it by thread."""
    import cv2

    cv2.ipp.setUseIPP(False)


def _results(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Results in order; no more are under way than keep the workers busy."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise


@dataclass(eq=False)
class _Inherited:
    """What forked processes find in their memory, so that items need not be pickled."""

    work: Callable[[Any], Any]
    items: Sequence[Any]


_INHERITED: list[_Inherited] = []


def _inherited(place: int) -> Any:
    return _INHERITED[-1].work(_INHERITED[-1].items[place])
