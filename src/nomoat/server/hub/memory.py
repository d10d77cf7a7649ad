"""Large blocks of memory go back to the system as soon as they are free.

glibc keeps what threads free for the same thread, up to tens of megabytes each: pictures and blocks of files, read in
turns by many threads, would add up to several times what is in use.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["give_back_large_blocks"]

_M_MMAP_THRESHOLD, _THRESHOLD_BYTES = -3, 256 << 10  # malloc.h


def give_back_large_blocks() -> None:
    """Tell glibc's allocator, for this process; elsewhere nothing is done."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)
