"""What the doctor says of the network: which sockets nomoat's processes have open, and to whom."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from nomoat.base.server_records import read_records
from nomoat.base.settings import Settings
from nomoat.cli.findings import WARNING, Finding
from nomoat.cli.servers import process_tree

__all__ = ["examine"]

_TOPIC = "network"
_PROGRAM = "nomoat"


@dataclass(frozen=True)
class _Socket:
    """A socket for internet traffic: `remote` is empty where it waits for others to connect."""

    pid: int
    local: str
    remote: str
    is_outside: bool


def examine(settings: Settings) -> Iterator[Finding]:
    """Findings about open sockets of every nomoat process of this machine."""
    processes = _processes(settings)
    sockets, hidden = _sockets(processes)
    facts: dict[str, Any] = {
        "processes": sorted(processes),
        "sockets": [vars(socket) for socket in sockets],
        "not_readable": hidden,
    }
    for socket in sockets:
        if socket.is_outside:
            yield _open_finding(socket)
    if not any(socket.is_outside for socket in sockets):
        yield Finding(_TOPIC, _closed_words(processes, sockets), facts=facts)
    if hidden:
        yield Finding(_TOPIC, f"processes {', '.join(map(str, hidden))} belong to another user: not looked into",
                      WARNING, "run the doctor as that user, too", facts)  # fmt: skip


def _processes(settings: Settings) -> dict[int, psutil.Process]:
    """Servers by their records, everything else by its command line; with all that descends from them."""
    found = {
        process.pid: process for record in read_records(settings.home) for process in process_tree(record.pid)
    }
    for process in psutil.process_iter(["cmdline"]):
        if process.pid not in found and _is_nomoat(process.info["cmdline"] or []):
            found |= {member.pid: member for member in process_tree(process.pid)}
    found.pop(os.getpid(), None)
    return found


def _is_nomoat(argv: list[str]) -> bool:
    """`.../bin/nomoat run`, `python .../nomoat run`, `python -P -m nomoat.run.worker`."""
    for position, word in enumerate(argv[:5]):
        if position < 2 and word.rpartition("/")[2] == _PROGRAM:
            return True
        if word == "-m" and argv[position + 1 : position + 2]:
            module = argv[position + 1]
            return module == _PROGRAM or module.startswith(f"{_PROGRAM}.")
    return False


def _sockets(processes: dict[int, psutil.Process]) -> tuple[list[_Socket], list[int]]:
    """Their internet sockets, and the processes that may not be looked into."""
    sockets, hidden = [], []
    for pid, process in sorted(processes.items()):
        try:
            connections = process.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        except psutil.Error:
            hidden.append(pid)
            continue
        for one in connections:
            addresses = [address for address in (one.laddr, one.raddr) if address]
            outside = any(
                not ipaddress.ip_address(address.ip.partition("%")[0]).is_loopback for address in addresses
            )
            sockets.append(_Socket(pid, _words(one.laddr), _words(one.raddr), outside))
    return sockets, hidden


def _words(address: Any) -> str:
    return f"{address.ip}:{address.port}" if address else ""


def _open_finding(socket: _Socket) -> Finding:
    if socket.remote:
        text = f"process {socket.pid} is connected with {socket.remote}, outside this machine"
        remedy = (
            "right for a client of a server that you opened to your network; else report it, and nomoat stop"
        )
    else:
        text = f"process {socket.pid} can be reached from other machines at {socket.local}"
        remedy = f"if you did not mean that: nomoat stop {socket.pid}, then nomoat serve without --host"
    return Finding(_TOPIC, text, WARNING, remedy, vars(socket))


def _closed_words(processes: dict[int, psutil.Process], sockets: list[_Socket]) -> str:
    if not processes:
        return "no nomoat process but this one"
    listening = sorted({socket.local for socket in sockets if not socket.remote})
    where = f"; listening on {', '.join(listening)}" if listening else ""
    count = f"{len(processes)} nomoat process{'es' if len(processes) > 1 else ''}"
    return f"{count}, no socket that is open to another machine{where}"
