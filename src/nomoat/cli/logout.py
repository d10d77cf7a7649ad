"""`nomoat logout`: forget a hub's token."""

from __future__ import annotations

import click

from nomoat.base.errors import NotFoundError
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.command("logout", short_help="Forget your token for a hub.")
@click.argument("host")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(host: str, as_json: bool) -> None:
    """Forget the token for HOST. It stays valid until you delete it on the hub's page of tokens."""
    from nomoat.base.settings import Settings
    from nomoat.share.client.references import parse_hub
    from nomoat.share.client.tokens import Tokens

    hub, tokens = parse_hub(host), Tokens(Settings.from_environment().home)
    if not tokens.forget(hub.host):
        known = ", ".join(tokens.hosts()) or "none"
        raise NotFoundError(f"no token is kept for {hub.host}", f"hubs with a token: {known}")
    if as_json:
        print_json({"hub": hub.host})
    else:
        click.echo(f"forgot the token for {hub.host}")
