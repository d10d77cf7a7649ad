"""`nomoat hub token`: the tokens of a hub's people, from the machine that it is on."""

from __future__ import annotations

from pathlib import Path

import click

from nomoat.cli.hub_root import opened_registry, root_option
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.group("token")
def command() -> None:
    """The tokens of a hub's people."""


@command.command("add")
@click.argument("user")
@root_option
@click.option("--label", default="token", show_default=True, help="What it is for.")
@click.option("--scope", type=click.Choice(["read", "write", "admin"]), default="read", show_default=True)
@click.option("--days", type=click.IntRange(1), help="How long it is valid.  [default: until it is revoked]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: token.")
def _add(user: str, root: Path | None, label: str, scope: str, days: int | None, as_json: bool) -> None:
    """Make a token of USER. It is shown this once: the hub keeps no more than its hash."""
    from nomoat.share.registry.accounts import Scope
    from nomoat.share.registry.database import now_ms

    scopes: dict[str, Scope] = {"read": "read", "write": "write", "admin": "admin"}
    with opened_registry(root) as registry:
        expires = now_ms() + days * 86_400_000 if days else None
        token = registry.accounts.add_token(user, label, scopes[scope], expires_ms=expires)
    if as_json:
        print_json({"token": token})
    else:
        click.echo(token)


@command.command("list")
@click.argument("user")
@root_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object: tokens.")
def _list_all(user: str, root: Path | None, as_json: bool) -> None:
    """Show the tokens of USER, without their secrets."""
    with opened_registry(root) as registry:
        tokens = registry.accounts.tokens(user)
    if as_json:
        print_json({"tokens": [vars(token) for token in tokens]})
        return
    for token in tokens:
        click.echo(f"{token.id}  {token.scope:5}  {token.label}")


@command.command("revoke")
@click.argument("user")
@click.argument("number", type=int)
@root_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object: revoked.")
def _revoke(user: str, number: int, root: Path | None, as_json: bool) -> None:
    """End the token NUMBER of USER; `list` shows the numbers."""
    with opened_registry(root) as registry:
        registry.accounts.revoke_token(user, number)
    if as_json:
        print_json({"revoked": number})
    else:
        click.echo(f"token {number} of {user} is no longer valid")
