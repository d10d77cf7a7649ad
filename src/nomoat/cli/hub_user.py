"""`nomoat hub user`: the people and organisations of a hub, from the machine that it is on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nomoat.cli.hub_root import opened_registry, root_option
from nomoat.cli.output import print_json
from nomoat.cli.sizes import size_in_bytes

if TYPE_CHECKING:
    from nomoat.share.registry.accounts import Account

__all__ = ["command"]


@click.group("user")
def command() -> None:
    """The people and organisations of a hub."""


@command.command("add")
@click.argument("name")
@root_option
@click.option("--full-name", default="", help="As it is shown.")
@click.option("--org", "is_org", is_flag=True, help="An organisation: it has members, and no tokens.")
@click.option("--admin", "is_admin", is_flag=True, help="May run this hub.")
@click.option("--quota", "quota_bytes", type=size_in_bytes, metavar="SIZE",
              help="What it may store, such as 2GB.")  # fmt: skip
@click.option("--member", "members", multiple=True, metavar="USER=ROLE",
              help="Of an organisation: admin, write or read.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def _add(
    name: str, root: Path | None, full_name: str, is_org: bool, is_admin: bool, quota_bytes: int | None,
    members: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Add the account NAME."""
    with opened_registry(root) as registry:
        accounts = registry.accounts
        accounts.add(name, kind="org" if is_org else "user", full_name=full_name, is_admin=is_admin)
        for member in members:
            user, _, role = member.partition("=")
            accounts.set_member(name, user, role or "write")
        account = accounts.change(name, quota_bytes=quota_bytes)
    _show([account], as_json)


@command.command("list")
@root_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object: users.")
def _list_all(root: Path | None, as_json: bool) -> None:
    """Show all accounts."""
    with opened_registry(root) as registry:
        accounts = registry.accounts.all()
    if as_json:
        print_json({"users": [_as_json(account) for account in accounts]})
    else:
        _show(accounts, False)


@command.command("suspend")
@click.argument("name")
@root_option
@click.option("--undo", is_flag=True, help="Let it in again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def _suspend(name: str, root: Path | None, undo: bool, as_json: bool) -> None:
    """Let the account NAME do nothing more: its tokens are refused."""
    with opened_registry(root) as registry:
        account = registry.accounts.change(name, suspended=not undo)
    _show([account], as_json)


@command.command("quota")
@click.argument("name")
@click.argument("quota_bytes", type=size_in_bytes, metavar="[SIZE]", required=False)
@root_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def _quota(name: str, quota_bytes: int | None, root: Path | None, as_json: bool) -> None:
    """Set what the account NAME may store, such as 2GB; without SIZE it is the hub's own limit."""
    with opened_registry(root) as registry:
        account = registry.accounts.change(name, quota_bytes=quota_bytes)
    _show([account], as_json)


def _show(accounts: list[Account], as_json: bool) -> None:
    if as_json:
        print_json(_as_json(accounts[0]))
        return
    for account in accounts:
        marks = [
            account.kind,
            *(["admin"] if account.is_admin else []),
            *(["suspended"] if account.suspended else []),
            *([f"at most {account.quota_bytes:,} bytes"] if account.quota_bytes is not None else []),
        ]
        click.echo(f"{account.name}  {', '.join(marks)}")


def _as_json(account: Account) -> dict[str, Any]:
    return {
        "name": account.name, "kind": account.kind, "full_name": account.full_name, "is_admin": account.is_admin,
        "suspended": account.suspended, "quota_bytes": account.quota_bytes, "created_ms": account.created_ms,
    }  # fmt: skip
