"""Memory that is free is there for all threads, and large blocks of it go back to the system at once.

glibc keeps what a thread frees for the same thread, up to tens of megabytes each: pictures and blocks of files, read in
turns by many threads, would add up to several times what is in use.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["give_back_large_blocks"]

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h
# Pictures are larger. Blocks of files are not: getting each anew from the system would cost much of the speed.
_THRESHOLD_BYTES = 4 << 20


def give_back_large_blocks() -> None:
    """Tell glibc's allocator, before the process has threads; elsewhere nothing is done."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 1)
            mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)
