"""`nomoat stop`: end a server gracefully."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import click

from nomoat.base.errors import NomoatError
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.base.server_records import ServerRecord

__all__ = ["command"]

_POLL_SECONDS = 0.05
_DYING_SECONDS = 10.0  # the system needs a moment to take back a large process


@click.command("stop")
@click.argument("target", required=False, metavar="[PID|URL]")
@click.option("--all", "all_servers", is_flag=True, help="Every running server.")
@click.option("--wait", "patience_seconds", type=click.FloatRange(0), default=60.0, show_default=True,
              metavar="SECONDS", help="How long answers may take to finish.")  # fmt: skip
@click.option("--force", is_flag=True, help="Kill what has not ended by then.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: stopped.")
def command(
    target: str | None, all_servers: bool, patience_seconds: float, force: bool, as_json: bool
) -> None:
    """End the server with a process id or address; without either, the only one that runs.

    It takes no more requests and finishes the answers it is writing. This command waits until it is gone.
    """
    from nomoat.cli.servers import name_server, running_servers

    if target is not None and all_servers:
        raise click.UsageError("give a server or --all, not both")
    servers = running_servers()
    chosen = servers if all_servers else [name_server(servers, target)]
    begun = time.monotonic()
    for server in chosen:
        _signal(server, signal.SIGTERM)
    stopped = []
    for server in chosen:
        ended = _has_ended(server, begun + patience_seconds)
        if not ended:
            _kill(server, patience_seconds, force)
        seconds = round(time.monotonic() - begun, 2)
        stopped.append({"pid": server.pid, "url": server.url, "forced": not ended, "seconds": seconds})
        if not as_json:
            click.echo(f"{'stopped' if ended else 'killed'} {server.url} (process {server.pid})")
    if as_json:
        print_json({"stopped": stopped})
    elif not chosen:
        click.echo("no server is running")


def _signal(server: ServerRecord, number: signal.Signals) -> None:
    try:
        os.kill(server.pid, number)
    except ProcessLookupError:
        pass  # it ended by itself meanwhile
    except PermissionError as error:
        raise NomoatError(f"the server {server.url} (process {server.pid}) belongs to another user",
                          "let that user stop it") from error  # fmt: skip


def _has_ended(server: ServerRecord, deadline: float) -> bool:
    """Wait until the very process of the record is gone, not one that took its number."""
    from nomoat.base.server_records import process_identity

    while process_identity(server.pid) == server.identity:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _kill(server: ServerRecord, patience_seconds: float, force: bool) -> None:
    """Kill the server and its engines, which live in sessions of their own."""
    import psutil

    from nomoat.cli.servers import process_tree

    if not force:
        raise NomoatError(
            f"{server.url} (process {server.pid}) is still finishing answers after {patience_seconds:g} seconds",
            "wait longer, or cut the answers off: nomoat stop --force --wait 0",
        )
    family = process_tree(server.pid)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    _has_ended(server, time.monotonic() + _DYING_SECONDS)
