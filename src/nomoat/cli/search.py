"""`nomoat search`: find models, adapters and data sets on a hub."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from nomoat.base.errors import InputError
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.share.client.search import Found
    from nomoat.share.client.tokens import Tokens

__all__ = ["command"]


@click.command("search", short_help="Find models and adapters on a hub.")
@click.argument("words", nargs=-1)
@click.option(
    "--hub", metavar="HOST", help="Where to look.  [default: the one hub that you are logged in to]"
)
@click.option("--type", "kind", type=click.Choice(["adapter", "model", "dataset"]), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(words: tuple[str, ...], hub: str | None, kind: Any, limit: int, as_json: bool) -> None:
    """Look for WORDS in the names, tags and cards of a hub's repositories; the most downloaded come first."""
    from nomoat.base.settings import Settings
    from nomoat.share.client.connection import Connection
    from nomoat.share.client.references import parse_hub
    from nomoat.share.client.search import search
    from nomoat.share.client.tokens import Tokens

    tokens = Tokens(Settings.from_environment().home)
    address = parse_hub(hub or _only_hub(tokens))
    with Connection(address, tokens.find(address)) as connection:
        found = search(connection, " ".join(words), kind, limit)
    if as_json:
        rows = [{**asdict(each), "reference": _reference(address.host, each)} for each in found]
        print_json({"hub": address.host, "found": rows})
        return
    _show(address.host, found)


def _only_hub(tokens: Tokens) -> str:
    """Without a hub named, the network is asked nothing unless it is clear whom the user means."""
    hosts = tokens.hosts()
    if len(hosts) != 1:
        known = f" (you are logged in to {', '.join(hosts)})" if hosts else ""
        raise InputError(f"which hub?{known}", "name one with --hub, such as --hub hf.co")
    return hosts[0]


def _reference(host: str, found: Found) -> str:
    return f"{host}/{'datasets/' if found.kind == 'dataset' else ''}{found.name}"


def _kind_words(found: Found) -> str:
    """What it is: PEFT tags its adapters, as nomoat's hub does."""
    if found.kind == "dataset":
        return "data set"
    return "adapter" if {"peft", "lora"} & set(found.tags) else "model"


def _show(host: str, found: list[Found]) -> None:
    from rich.table import Table
    from rich.text import Text

    from nomoat.cli.store_output import console

    if not found:
        click.echo("nothing found", err=True)
        return
    table = Table(box=None, pad_edge=False)
    for title in ("name", "kind", "base", "changed"):
        table.add_column(title, overflow="fold")
    for title in ("downloads", "likes"):
        table.add_column(title, justify="right")
    for each in found:
        cells = (
            _reference(host, each),
            f"{_kind_words(each)}{', private' if each.private else ''}",
            each.base_model,
            each.modified[:10],
            f"{each.downloads:,}",
            f"{each.likes:,}",
        )
        table.add_row(*(Text(cell) for cell in cells))
    console().print(table)
