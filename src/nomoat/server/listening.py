"""What every server of nomoat does alike: bind, say when it answers, take signals, drop silent connections."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from nomoat.base.errors import InputError

__all__ = ["SECONDS_FOR_REQUEST", "Connection", "GracefulServer", "listen_at", "url_of"]

SECONDS_FOR_REQUEST = 30

_PROBLEM = (
    b'{"error": {"message": "no request came in time", "type": "request_timeout", "code": "request_timeout"}}'
)
_TOO_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_PROBLEM), _PROBLEM)
)


class GracefulServer(uvicorn.Server):
    """uvicorn's server, which says when it is ready and takes a signal as the wish to end in good order."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGTERM and Ctrl-C as the wish to end. uvicorn would raise them once more when all is done."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in good order; a second signal does not wait for what still runs."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._announce()


class Connection(H11Protocol):
    """A connection that is told so, and closed, when it sends no request for a while, its first one included."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: uvicorn's own runs only between requests."""
        super().connection_made(transport)
        self._clock = self.loop.call_later(SECONDS_FOR_REQUEST, self._close_without_request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._clock.cancel()
        super().connection_lost(exc)

    def _close_without_request(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.write(_TOO_LATE)
            self.transport.close()


def listen_at(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `InputError` where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol must be named: asyncio sets TCP_NODELAY only then, and without it every answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"{host}:{port}: cannot listen there ({error})",
                         "choose another --port; 0 takes a free one") from error  # fmt: skip
    return listener


def url_of(host: str, listener: socket.socket) -> str:
    """The address of a server that listens there."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"
