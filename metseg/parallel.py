"""Parallel map over cases: results in order, memory bounded by the number of workers."""

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
    """Return the cores of this process: `METSEG_WORKERS`, else its affinity and its container's quota.

    Raises:
        UsageError: `METSEG_WORKERS` is not a positive whole number.
    """
    from metseg.environment_settings import ResourceSettings

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
    """Yield `work(item)` of every item, in order, from forked processes; the first error ends it.

    For work that is mostly Python, for which threads would wait for one another. A process with threads must not fork:
    there, and on systems without a safe fork, threads do the work. Few items are processed in this process.

    Args:
        work: called with one item; its result can be pickled.
        items: of the work.
        workers: number of items at a time.

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
            "A process that read cases was killed, most likely out of memory. Give the step more memory, or set "
            "METSEG_WORKERS=1."
        ) from error
    finally:
        _INHERITED.remove(inherited)
        cv2.setNumThreads(threads)


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `work(item)` of every item, in order, from threads; the first error ends it.

    For work in NumPy, OpenCV and files, which release the interpreter's lock.

    Args:
        work: called with one item.
        items: of the work.
        workers: number of items at a time.
    """
    if workers == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers, initializer=_same_pixels) as pool:
        yield from _results(pool, work, items, workers)


def _same_pixels() -> None:
    """Disable Intel's IPP in this thread, as `metseg.imaging.preprocessing.resize` does: the switch is per thread."""
    import cv2

    cv2.ipp.setUseIPP(False)


def _results(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield results in order, with no more items in flight than keep the workers busy."""
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
    """Function and items in the memory of forked processes, without pickling."""

    work: Callable[[Any], Any]
    items: Sequence[Any]


_INHERITED: list[_Inherited] = []


def _inherited(place: int) -> Any:
    return _INHERITED[-1].work(_INHERITED[-1].items[place])
