"""How many bytes are on their way in, so that several uploads at once do not pass a quota that each one keeps."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

__all__ = ["Coming"]


class Coming:
    """Announced bytes of uploads under way, by owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: Counter[int] = Counter()

    def bytes_of(self, owner_id: int) -> int:
        """How many are coming for an owner."""
        return self._bytes[owner_id]

    @contextlib.contextmanager
    def counted(self, owner_id: int, size_bytes: int) -> Iterator[None]:
        """Count them while the block runs."""
        with self._lock:
            self._bytes[owner_id] += size_bytes
        try:
            yield
        finally:
            with self._lock:
                self._bytes[owner_id] -= size_bytes
                if self._bytes[owner_id] <= 0:
                    del self._bytes[owner_id]
