"""Requests that wait: every client has its turn, however many requests another one sends."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from nomoat.base.errors import OverloadedError

__all__ = ["FairQueue"]

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First come, first served within a client; between clients in turn, those first that have fewest running."""

    def __init__(self, limit: int) -> None:
        """At most `limit` wait at a time."""
        self._limit = limit
        self._waiting: OrderedDict[str, deque[T]] = (
            OrderedDict()
        )  # the client that was served longest ago first
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        return (item for waiting in self._waiting.values() for item in waiting)

    def push(self, item: T, client: str) -> None:
        """Add an item to its client's end. Raises `OverloadedError` where the queue is full."""
        if self._count >= self._limit:
            raise OverloadedError(f"{self._count} requests wait already", "send it again a little later")
        self._waiting.setdefault(client, deque()).append(item)
        self._count += 1

    def push_back(self, item: T, client: str) -> None:
        """Put an item that was taken out too early before all others of its client; never refused."""
        self._waiting.setdefault(client, deque()).appendleft(item)
        self._waiting.move_to_end(client, last=False)
        self._count += 1

    def pop(self, running: Counter[str], ready: Callable[[T], bool]) -> T | None:
        """The next item that is `ready`; only each client's first is asked, so that none overtakes its own."""
        for client in sorted(self._waiting, key=lambda client: running[client]):  # stable: then by turn
            if ready(self._waiting[client][0]):
                return self._take(client)
        return None

    def discard(self, wanted: Callable[[T], bool]) -> list[T]:
        """Take out all items that are `wanted`."""
        found = [item for item in self if wanted(item)]
        for client in list(self._waiting):
            kept = deque(item for item in self._waiting[client] if not wanted(item))
            if kept:
                self._waiting[client] = kept
            else:
                del self._waiting[client]
        self._count -= len(found)
        return found

    def _take(self, client: str) -> T:
        waiting = self._waiting[client]
        item = waiting.popleft()
        self._count -= 1
        self._waiting.move_to_end(client)
        if not waiting:
            del self._waiting[client]
        return item
