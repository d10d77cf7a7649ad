"""Runs the server: binds, says when it answers, and ends in good order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import uvicorn

from nomoat.base.server_records import ServerRecord, remove_record, write_record
from nomoat.server.app import make_app
from nomoat.server.listening import SECONDS_FOR_REQUEST, Connection, GracefulServer, listen_at, url_of
from nomoat.server.service import Service

__all__ = ["ServeOptions", "listen", "serve"]

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
            server_header=False, date_header=False, timeout_keep_alive=SECONDS_FOR_REQUEST,
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


class _Server(GracefulServer):
    """A server that lets answers end before it does."""

    def __init__(
        self, config: uvicorn.Config, service: Service, grace_seconds: float, announce: Callable[[], None]
    ) -> None:
        super().__init__(config, announce)
        self._service, self._grace_seconds = service, grace_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends the server in good order, a second one ends the running answers, too."""
        if self.should_exit and self._loop is not None:
            self._loop.call_soon_threadsafe(self._service.answers.end_all)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, give running answers their time, then let them end with a last event."""
        self._service.closing = True
        timer = asyncio.get_running_loop().call_later(self._grace_seconds, self._service.answers.end_all)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()


def listen(options: ServeOptions) -> socket.socket:
    """A socket that listens there. Raises `InputError` where it cannot."""
    return listen_at(options.host, options.port)


def _record(service: Service, options: ServeOptions, listener: socket.socket) -> ServerRecord:
    models = tuple(entry.name for entry in service.models.entries())
    return ServerRecord(
        url_of(options.host, listener), os.getpid(), models, service.started, service.models.threads or 0
    )


def _announce(service: Service, record: ServerRecord, on_ready: Callable[[ServerRecord], None]) -> None:
    with contextlib.suppress(OSError):  # a full disk must not stop the server: only `ps` misses it
        write_record(service.models.settings.home, record)
    on_ready(record)
