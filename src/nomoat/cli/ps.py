"""`nomoat ps`: the servers that run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.base.server_records import ServerRecord

__all__ = ["command"]


@click.command("ps")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: servers.")
def command(as_json: bool) -> None:
    """Show the running servers: address, process, models, memory, since when.

    Those of this store and this machine are shown, whoever started them.
    """
    from nomoat.cli.servers import running_servers

    servers = [_as_json(server) for server in running_servers()]
    if as_json:
        print_json({"servers": servers})
        return
    from rich.table import Table

    from nomoat.cli.store_output import console, size_words

    table = Table("URL", "PID", "MODELS", "MEMORY", "UP", box=None)
    for server in servers:
        memory = size_words(server["memory_bytes"]) if server["memory_bytes"] else "not readable"
        up = _duration_words(server["uptime_seconds"])
        models = ", ".join(server["models"]) or "none yet"
        table.add_row(server["url"], str(server["pid"]), models, memory, up)
    console().print(table if servers else "no server is running: nomoat serve", markup=False)


def _as_json(server: ServerRecord) -> dict[str, Any]:
    from nomoat.cli.servers import memory_bytes

    return {
        "url": server.url,
        "pid": server.pid,
        "models": list(server.models),
        "started": server.started,
        "uptime_seconds": round(max(0.0, time.time() - server.started), 1),
        "memory_bytes": memory_bytes(server.pid),
        "threads": server.threads or None,
    }


def _duration_words(seconds: float) -> str:
    """`3 d 4 h`: the two largest units."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"
