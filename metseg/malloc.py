"""Configure malloc to keep freed memory."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Names of mallopt(3) in glibc's malloc.h."""
_KEPT_BYTES = 2**30


def keep_freed_memory() -> None:
    """Keep up to 1 GiB of freed memory; call before the process has threads.

    By default glibc returns each large block to the kernel and gets it back zeroed, page by page. That costs a tenth of
    a training step, and half of the transfer of a volume through gRPC. All threads share one heap, because only the
    first may have blocks of more than 64 MiB. Other C libraries are left alone.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_ARENA_MAX, 1)
