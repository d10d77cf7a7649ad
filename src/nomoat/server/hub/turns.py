"""Requests of one client that go on in the order in which they began, though their bodies end in another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

__all__ = ["Turn", "Turns"]

_PATIENCE_SECONDS = 5.0


class Turn:
    """The place of one request in its client's row."""

    def __init__(self, before: Turn | None) -> None:
        self.before, self.done = before, asyncio.Event()

    async def comes(self) -> None:
        """Wait for those that began before this one, but not for one that hangs."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while self.before is not None:
                    await self.before.done.wait()
                    self.before = self.before.before  # one that failed may have ended before its turn
        self.before = None


class Turns:
    """The last request of each client that is under way. Used by the event loop alone."""

    def __init__(self) -> None:
        self._last: dict[str, Turn] = {}

    @contextlib.asynccontextmanager
    async def begun(self, client: str) -> AsyncIterator[Turn]:
        """A request of `client` begins here, and ends with the block."""
        turn = self._last[client] = Turn(self._last.get(client))
        try:
            yield turn
        finally:
            turn.done.set()
            if self._last.get(client) is turn:
                del self._last[client]
