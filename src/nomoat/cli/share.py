"""`nomoat share`: offer models and adapters to the machines of this network."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from nomoat.cli.complete import complete_names
from nomoat.cli.output import print_json
from nomoat.cli.store_output import size_words

if TYPE_CHECKING:
    from nomoat.server.lan.serving import Ready
    from nomoat.share.things import Thing

__all__ = ["command"]


@click.command("share", short_help="Offer models or adapters in this network.")
@click.argument(
    "names", nargs=-1, required=True, metavar="MODEL_OR_ADAPTER...", shell_complete=complete_names
)
@click.option("--host", help="Address to listen on.  [default: those of this machine's network cards]")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output when ready.")
def command(names: tuple[str, ...], host: str | None, port: int, as_json: bool) -> None:
    """Offer each MODEL_OR_ADAPTER, a name of `nomoat list` or a path, to everyone in this network, for reading.

    Nothing else of this machine can be read. Ctrl-C ends it and takes the announcement back.
    """
    _require_parts()
    from nomoat.cli.progress import TerminalProgress
    from nomoat.server.lan.serving import serve_lan
    from nomoat.share.lan.blocks import Shelf
    from nomoat.share.things import find_thing
    from nomoat.store.store import Store

    store, progress = Store.from_environment(), TerminalProgress()
    hosts = [host] if host else _own_addresses()
    things = [find_thing(store, name, progress) for name in dict.fromkeys(names)]
    shelf = Shelf(things, store.home, progress)
    serve_lan(shelf, hosts, port, lambda ready: _ready(ready, shelf.things, as_json))


def _require_parts() -> None:
    from importlib.util import find_spec

    from nomoat.base.errors import MissingExtraError

    for extra, packages in (
        ("serve", ("starlette", "uvicorn", "msgspec")),
        ("share", ("blake3", "segno", "zeroconf")),
    ):
        for package in packages:
            if find_spec(package) is None:
                raise MissingExtraError(extra, package)


def _own_addresses() -> list[str]:
    from nomoat.base.errors import InputError
    from nomoat.share.lan.interfaces import lan_addresses

    addresses = lan_addresses()
    if not addresses:
        raise InputError("this machine has no private address in a network",
                         "connect it to one, or name the address to listen on: --host ADDRESS")  # fmt: skip
    return list(addresses)


def _ready(ready: Ready, things: tuple[Thing, ...], as_json: bool) -> None:
    if as_json:
        import os

        print_json({"url": ready.urls[0], "urls": list(ready.urls), "pid": os.getpid(),
                    "announced": list(ready.announced), "things": [thing.as_json() for thing in things]})  # fmt: skip
        return
    for thing in things:
        click.echo(f"{thing.name}: {thing.kind}, {size_words(thing.size_bytes)}, {thing.digest}")
    for url in ready.urls:
        click.echo(f"  {url}/")
    _show_qr(f"{ready.urls[0]}/")
    readers = _readers(ready.urls)
    click.echo("On this machine:" if "machine" in readers else "On another machine of this network:")
    for thing in things:
        address = "" if ready.announced else ready.urls[0].removeprefix("http://") + "/"
        click.echo(f"  nomoat pull lan/{address}{thing.name}")
    if ready.trouble:
        click.echo(f"It is not announced here: {ready.trouble}", err=True)
    click.echo(f"{readers} can read this until Ctrl-C ends it.", err=True)
    sys.stdout.flush()


def _readers(urls: tuple[str, ...]) -> str:
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    hosts = [urlsplit(url).hostname or "" for url in urls]
    if all(host == "localhost" or ip_address(host.partition("%")[0]).is_loopback for host in hosts):
        return "Only who is on this machine"
    return "Anyone in this network"


def _show_qr(url: str) -> None:
    from nomoat.cli.share_qr import qr_lines
    from nomoat.cli.store_output import console

    if not (sys.stdout.encoding or "").lower().startswith("utf"):
        return
    lines = qr_lines(url, colours=sys.stdout.isatty() and not console().no_color)
    if shutil.get_terminal_size().columns > len(qr_lines(url, colours=False)[0]):
        click.echo("\n".join(lines), color=True)
