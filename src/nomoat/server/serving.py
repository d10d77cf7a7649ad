"""Runs the server: binds, says when it answers, and ends in good order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from nomoat.base.errors import InputError
from nomoat.base.server_records import ServerRecord, remove_record, write_record
from nomoat.server.app import make_app
from nomoat.server.service import Service

__all__ = ["Connection", "ServeOptions", "listen", "serve"]

_SECONDS_FOR_REQUEST = 30
_SECONDS_AFTER_END_ALL = 10
_MOST_CONNECTIONS = 1000


@dataclass(frozen=True)
class ServeOptions:
    """Where to listen, and how long running answers may go on once the server is told to end."""

    host: str = "127.0.0.1"
    port: int = 11435
    grace_seconds: float = 20.0


def serve(service: Service, options: ServeOptions, on_ready: Callable[[ServerRecord], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises `InputError` where the address is taken."""
    with listen(options) as listener:
        app = make_app(service)
        config = uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", log_config=None, log_level="error", access_log=False,
            server_header=False, date_header=False, timeout_keep_alive=_SECONDS_FOR_REQUEST,
            timeout_graceful_shutdown=int(options.grace_seconds) + _SECONDS_AFTER_END_ALL,
            limit_concurrency=_MOST_CONNECTIONS, loop="asyncio",
        )  # fmt: skip
        record = _record(service, options, listener)
        server = _Server(config, service, options.grace_seconds, lambda: _announce(service, record, on_ready))
        try:
            asyncio.run(server.serve([listener]))
        finally:
            remove_record(service.models.settings.home, record.pid)
            service.models.close()


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready and lets answers end before it does."""

    def __init__(
        self, config: uvicorn.Config, service: Service, grace_seconds: float, announce: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service, self._grace_seconds, self._announce = service, grace_seconds, announce
        self._loop: asyncio.AbstractEventLoop | None = None

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
        """The first signal ends the server in good order, a second one ends the running answers, too."""
        if self.should_exit and self._loop is not None:
            self._loop.call_soon_threadsafe(self._service.answers.end_all)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, give running answers their time, then let them end with a last event."""
        self._service.closing = True
        timer = asyncio.get_running_loop().call_later(self._grace_seconds, self._service.answers.end_all)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()


class Connection(H11Protocol):
    """A connection that is closed when it sends no request for a while, its first one included."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: uvicorn's own runs only between requests."""
        super().connection_made(transport)
        self._clock = self.loop.call_later(_SECONDS_FOR_REQUEST, self._close_without_request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._clock.cancel()
        super().connection_lost(exc)

    def _close_without_request(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def listen(options: ServeOptions) -> socket.socket:
    """A socket that listens there. Raises `InputError` where it cannot."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # The protocol must be named: asyncio sets TCP_NODELAY only then, and without it every answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
        listener.listen(512)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"{options.host}:{options.port}: cannot listen there ({error})",
                         "choose another --port; 0 takes a free one") from error  # fmt: skip
    return listener


def _record(service: Service, options: ServeOptions, listener: socket.socket) -> ServerRecord:
    host = f"[{options.host}]" if ":" in options.host else options.host
    models = tuple(entry.name for entry in service.models.entries())
    url = f"http://{host}:{listener.getsockname()[1]}"
    return ServerRecord(url, os.getpid(), models, service.started, service.models.threads or 0)


def _announce(service: Service, record: ServerRecord, on_ready: Callable[[ServerRecord], None]) -> None:
    with contextlib.suppress(OSError):  # a full disk must not stop the server: only `ps` misses it
        write_record(service.models.settings.home, record)
    on_ready(record)
