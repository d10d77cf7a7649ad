"""What the doctor says of the network: which sockets nomoat's processes have open, and to whom."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass
from socket import SOCK_DGRAM
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
    """A socket for internet traffic. `is_outside`: other machines can reach it, or it is connected with one."""

    pid: int
    local: str
    remote: str
    listens: bool
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
    yield Finding(_TOPIC, _summary(processes, sockets), facts=facts)
    for socket in sockets:
        if socket.is_outside:
            yield _open_finding(socket)
        elif socket.listens:
            text = f"process {socket.pid} listens at {socket.local}, which other machines cannot reach"
            yield Finding(_TOPIC, text, facts=vars(socket))
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
            listens = one.status == psutil.CONN_LISTEN or (one.type == SOCK_DGRAM and not one.raddr)
            outside = any(_is_outside(address.ip) for address in (one.laddr, one.raddr) if address)
            sockets.append(_Socket(pid, _words(one.laddr), _words(one.raddr), listens, outside))
    return sockets, hidden


def _is_outside(address: str) -> bool:
    """Whether packets for it may come from another machine."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return not (mapped or found).is_loopback


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


def _summary(processes: dict[int, psutil.Process], sockets: list[_Socket]) -> str:
    if not processes:
        return "no nomoat process but this one"
    count = f"{len(processes)} nomoat process{'es' if len(processes) > 1 else ''}"
    listening = [socket for socket in sockets if socket.listens]
    reachable = sum(socket.is_outside for socket in listening)
    if not any(socket.is_outside for socket in sockets):
        return f"{count}, sockets that listen: {len(listening)}, no socket that is open to another machine"
    return f"{count}, sockets that listen: {len(listening)}, of which other machines can reach {reachable}"
