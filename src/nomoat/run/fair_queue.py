"""Requests that wait: every client has its turn, however many requests another one sends."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from nomoat.base.errors import OverloadedError

__all__ = ["FairQueue"]

_PATIENCE_SECONDS = 5.0  # an item that was passed over for longer is the next, whoever else waits

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First come, first served within a client; between clients in turn, those first that have fewest running."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """At most `limit` wait at a time."""
        self._clock = clock
        self._passed_over: dict[int, float] = {}
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
        now = self._clock()
        for client in sorted(self._waiting, key=lambda client: running[client]):  # stable: then by turn
            item = self._waiting[client][0]
            if ready(item):
                return self._take(client)
            if now - self._passed_over.setdefault(id(item), now) > _PATIENCE_SECONDS:
                return None  # what is large would wait for ever while small ones slip past it
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
        for item in found:
            self._passed_over.pop(id(item), None)
        return found

    def _take(self, client: str) -> T:
        waiting = self._waiting[client]
        item = waiting.popleft()
        self._passed_over.pop(id(item), None)
        self._count -= 1
        self._waiting.move_to_end(client)
        if not waiting:
            del self._waiting[client]
        return item
