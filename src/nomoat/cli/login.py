"""`nomoat login`: keep a hub's token."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from nomoat.base.errors import InputError
from nomoat.cli.output import print_json

__all__ = ["command"]

_LONGEST = 1000


@click.command("login", short_help="Keep your token for a hub.")
@click.argument("host")
@click.option("--token-file", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE",
              help="Read the token from FILE, '-' for standard input.  [default: ask]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(host: str, token_file: Path | None, as_json: bool) -> None:
    """Ask HOST whose token it is, then keep it for HOST in this store, readable by you alone.

    A token never stands in a command: other users of the machine could read it there.
    """
    from nomoat.base.settings import Settings
    from nomoat.share.client.connection import Connection
    from nomoat.share.client.references import parse_hub
    from nomoat.share.client.search import whoami
    from nomoat.share.client.tokens import Tokens

    hub = parse_hub(host)
    if not hub.may_carry_secrets:
        raise InputError(f"{hub.endpoint} is not encrypted, so everybody on the way could read the token",
                         f"use https: nomoat login {hub.host}")  # fmt: skip
    token = _read_token(hub.host, token_file)
    with Connection(hub, token) as connection:
        name = whoami(connection)
    Tokens(Settings.from_environment().home).keep(hub.host, token)
    if as_json:
        print_json({"hub": hub.host, "name": name})
    else:
        click.echo(f"{name} on {hub.host}")


def _read_token(host: str, path: Path | None) -> str:
    if path is None:
        if not sys.stdin.isatty():
            raise InputError(
                "there is no terminal to ask for the token at", "give --token-file FILE, or - for a pipe"
            )
        text = str(click.prompt(f"Token for {host}", hide_input=True, err=True))
    elif str(path) == "-":
        text = sys.stdin.read(_LONGEST + 1)
    elif path.is_file():
        with path.open(encoding="utf-8", errors="replace") as handle:
            text = handle.read(_LONGEST + 1)
    else:
        raise InputError(f"{path}: no such file", "name the file that holds the token")
    token = text.strip()
    if not token or len(token) > _LONGEST or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError("that is no token", "copy it again from the hub's page of tokens")
    return token
