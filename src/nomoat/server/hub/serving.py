"""Runs a hub: opens its registry, makes the first account, binds, says when it answers, ends in good order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from nomoat.base.server_records import ServerRecord, remove_record, write_record
from nomoat.server.hub.app import make_hub_app
from nomoat.server.hub.connection import HubConnection
from nomoat.server.hub.hub import Hub, HubConfig
from nomoat.server.hub.memory import give_back_large_blocks
from nomoat.server.listening import SECONDS_FOR_REQUEST, GracefulServer, listen_at, url_of
from nomoat.share.checks.inspect import inspect
from nomoat.share.registry.registry import Registry, RegistryConfig

__all__ = ["ADMIN", "HubOptions", "Ready", "first_token", "serve_hub", "uvicorn_config"]

ADMIN = "admin"
_GRACE_SECONDS = 20
_MOST_CONNECTIONS = 2000


@dataclass(frozen=True)
class HubOptions:
    """Where a hub keeps its things, and where it listens. `home` is where `nomoat ps` looks."""

    registry: RegistryConfig
    config: HubConfig
    port: int
    home: Path


@dataclass(frozen=True)
class Ready:
    """What a hub says when it answers. `admin_token` is there only at the very first start."""

    url: str
    pid: int
    admin_token: str | None


def serve_hub(options: HubOptions, on_ready: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises `InputError` where the address is taken."""
    give_back_large_blocks()
    with contextlib.closing(Registry(options.registry)) as registry:
        registry.inspection = inspect
        with listen_at(options.config.host, options.port) as listener:
            ready = Ready(url_of(options.config.host, listener), os.getpid(), first_token(registry))
            record = ServerRecord(ready.url, ready.pid, ("hub",), time.time())

            def announce() -> None:
                with contextlib.suppress(OSError):  # a full disk must not stop the hub: only `ps` misses it
                    write_record(options.home, record)
                on_ready(ready)

            hub = Hub(registry, options.config)
            hub.parts.sweep()
            server = GracefulServer(uvicorn_config(hub), announce)
            try:
                asyncio.run(server.serve([listener]))
            finally:
                remove_record(options.home, record.pid)
                hub.downloads.flush()


def first_token(registry: Registry) -> str | None:
    """A token of the account that runs the hub, where the hub is new; it is made here and shown once."""
    if registry.accounts.all():
        return None
    registry.accounts.add(ADMIN, is_admin=True)
    return registry.accounts.add_token(ADMIN, "made at the first start", "admin")


def uvicorn_config(hub: Hub) -> uvicorn.Config:
    """How uvicorn runs a hub."""
    return uvicorn.Config(
        make_hub_app(hub), http=HubConnection, ws="none", lifespan="off", log_config=None, log_level="error",
        access_log=False, server_header=False, timeout_keep_alive=SECONDS_FOR_REQUEST,
        timeout_graceful_shutdown=_GRACE_SECONDS, limit_concurrency=_MOST_CONNECTIONS, loop="asyncio",
    )  # fmt: skip
