"""HTTP/1.1 connections of a hub: parsed by httptools, as gigabytes of body are parsed; with limits that it lacks."""

from __future__ import annotations

import asyncio
import logging

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nomoat.server.listening import SECONDS_FOR_REQUEST

__all__ = ["HubConnection"]

_MOST_HEAD_BYTES = 64 << 10
_LOG = logging.getLogger("nomoat.hub")


class HubConnection(HttpToolsProtocol):
    """A connection that ends when a request's head is too long, or does not come in time."""

    _clock: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: uvicorn's own runs only between requests."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and count what belongs to no complete head yet: the parser keeps all of it."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self._note("the head of a request is too long")
                self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """A request begins; bytes that come slowly do not keep the connection open."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._clock is None:
            self._wait_for_head()

    def on_url(self, url: bytes) -> None:
        """Count the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head, self._head_bytes = False, 0
        self._stop_clock()
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > _MOST_HEAD_BYTES:
            self._note("the head of a request is too long")
            raise ValueError("the head is too long")  # the parser passes it on; the answer is 400

    def _wait_for_head(self) -> None:
        self._clock = self.loop.call_later(SECONDS_FOR_REQUEST, self._close)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _close(self) -> None:
        if not self.transport.is_closing():
            if self._head_bytes:  # else a client that keeps its connection has no more questions
                self._note("the head of a request did not come in time")
            self.transport.close()

    def _note(self, what: str) -> None:
        client = self.client[0] if self.client else "?"
        _LOG.warning("refused: %s: %s", client, what)
