"""What the C library does with freed memory."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Names of mallopt(3) in glibc's malloc.h."""
_KEPT_BYTES = 2**30


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GiB of freed memory for what it allocates next; to be called before it has threads.

    As it comes, glibc hands each large block back to the system, which gives it again page by page, zeroed: that is a
    tenth of a training step, and half of the way of a volume through gRPC. One heap for all threads, because no other
    than the first holds blocks of more than 64 MiB. Nothing happens where the C library is another one.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_ARENA_MAX, 1)
