"""Runs `nomoat share`: listens at the addresses of this network, announces, and takes it all back at the end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

import uvicorn

from nomoat.base.errors import InputError
from nomoat.server.lan.app import make_lan_app
from nomoat.server.lan.files import Closing
from nomoat.server.listening import Connection
from nomoat.server.serving import ServeOptions, listen
from nomoat.share.lan.announce import Announcement
from nomoat.share.lan.blocks import Shelf
from nomoat.share.lan.interfaces import lan_addresses

__all__ = ["Ready", "serve_lan"]

_SECONDS_FOR_REQUEST = 15
_SECONDS_TO_END = 0.3
_MOST_CONNECTIONS = 128
_TRIES = 8


@dataclass(frozen=True)
class Ready:
    """Where the things can be had, and the names under which they are announced.

    `trouble` says why there is no announcement, where there is none.
    """

    urls: tuple[str, ...]
    announced: tuple[str, ...]
    trouble: str = ""


def serve_lan(shelf: Shelf, hosts: Sequence[str], port: int, on_ready: Callable[[Ready], None]) -> None:
    """Serve at these addresses until Ctrl-C, SIGTERM or the terminal's end. Raises `InputError` where one is taken."""
    with contextlib.ExitStack() as stack:
        listeners = _listeners(hosts, port)
        for listener in listeners:
            stack.enter_context(listener)
        app = make_lan_app(shelf)
        config = uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", log_config=None, log_level="critical", access_log=False,
            server_header=False, timeout_keep_alive=_SECONDS_FOR_REQUEST, limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=5, loop="asyncio",
        )  # fmt: skip
        number = listeners[0].getsockname()[1]
        reached = _reached([listener.getsockname()[0] for listener in listeners])
        urls = tuple(
            f"http://[{host}]:{number}" if ":" in host else f"http://{host}:{number}" for host in reached
        )
        announcement = Announcement(shelf.things, [host for host in reached if ":" not in host], number)
        server = _Server(
            config, app.state.closing, announcement,
            lambda names, trouble: on_ready(Ready(urls, names, trouble)),
        )  # fmt: skip
        asyncio.run(server.serve(listeners))


def _reached(hosts: Sequence[str]) -> list[str]:
    """The addresses at which others find what listens at `hosts`."""
    if "0.0.0.0" in hosts:
        return list(lan_addresses()) or ["127.0.0.1"]
    return list(hosts)


class _Server(uvicorn.Server):
    """uvicorn's server, which announces once it answers, and withdraws that before it ends."""

    def __init__(
        self,
        config: uvicorn.Config,
        closing: Closing,
        announcement: Announcement,
        on_ready: Callable[[tuple[str, ...], str], None],
    ) -> None:
        super().__init__(config)
        self._closing, self._announcement, self._on_ready = closing, announcement, on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take these signals as the wish to end. uvicorn would raise them once more when all is done."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in good order."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, announce, and say so."""
        await super().startup(sockets)
        names: tuple[str, ...] = ()
        trouble = ""
        try:
            names = tuple(await self._announcement.begin())
        except OSError as error:
            trouble = str(error)
        self._on_ready(names, trouble)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Withdraw the announcement, then cut what still runs: readers go on with another peer, or later."""
        self._closing.begun = True
        for server in self.servers:
            server.close()
        with contextlib.suppress(OSError, TimeoutError):
            await self._announcement.withdraw()
        await asyncio.sleep(_SECONDS_TO_END)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def _listeners(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Sockets at all hosts with one port. A port that is free at one address may be taken at another: try again."""
    for attempt in range(_TRIES):
        opened = [listen(ServeOptions(hosts[0], port))]
        try:
            chosen = opened[0].getsockname()[1]
            opened += [listen(ServeOptions(host, chosen)) for host in hosts[1:]]
            return opened
        except InputError:
            for listener in opened:
                listener.close()
            if port or attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")
