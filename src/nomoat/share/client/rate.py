"""A limit on bytes per second, shared by several threads."""

from __future__ import annotations

import threading
import time

__all__ = ["RateLimit"]

_BURST_SECONDS = 0.25


class RateLimit:
    """Lets `take` return no faster than so many bytes per second; None: at once."""

    def __init__(self, bytes_per_second: float | None) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, count: int) -> None:
        """Wait until `count` more bytes may have come."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _BURST_SECONDS) + count / self._rate
            wait = self._free_at - now
        if wait > 0:
            time.sleep(wait)
