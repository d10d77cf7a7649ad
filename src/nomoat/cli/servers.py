"""The running servers, as `nomoat ps` and `nomoat stop` see them: records and what the system knows."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nomoat.base.errors import InputError, NotFoundError
from nomoat.base.server_records import ServerRecord, read_records
from nomoat.base.settings import Settings

if TYPE_CHECKING:
    import psutil

__all__ = ["memory_bytes", "name_server", "process_tree", "running_servers"]

_REMEDY = "`nomoat ps` shows the running servers"


def running_servers() -> list[ServerRecord]:
    """Servers of this store, oldest first."""
    return read_records(Settings.from_environment().home)


def name_server(servers: list[ServerRecord], target: str | None) -> ServerRecord:
    """The server with a process id or a URL; without either, the only one.

    Raises `NotFoundError` where there is none, `InputError` where there are several to choose from.
    """
    if target is None:
        if len(servers) == 1:
            return servers[0]
        if not servers:
            raise NotFoundError("no server is running", "`nomoat serve` starts one")
        known = ", ".join(f"{server.pid} ({server.url})" for server in servers)
        raise InputError(f"{len(servers)} servers are running: {known}", "name one, or give --all")
    for server in servers:
        if target == str(server.pid) or target.rstrip("/") == server.url.rstrip("/"):
            return server
    raise NotFoundError(f"no server of nomoat is {target!r}", _REMEDY)


def process_tree(pid: int) -> list[psutil.Process]:
    """The process `pid` and all that descend from it; empty where it is gone."""
    import psutil

    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def memory_bytes(pid: int) -> int | None:
    """Memory of a server and its engines; pages that they share count once. None where it may not be read."""
    import psutil

    total = 0
    for process in process_tree(pid):
        try:
            memory = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        except psutil.Error:
            return None
        total += getattr(memory, "pss", 0) or memory.rss
    return total or None
