"""`nomoat hub serve`: run a hub, on this machine unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nomoat.cli.hub_root import registry_config, require_hub, root_option
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.server.hub.serving import Ready

__all__ = ["command"]


@click.command("serve")
@root_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one."
)
@click.option("--public-url", default="", metavar="URL", help="The address by which others know this hub.")
@click.option(
    "--files-url", default="", metavar="URL", help="A second address of it, for what users uploaded."
)
@click.option("--rate", type=click.IntRange(0), default=6000, show_default=True,
              help="Requests a minute of one token or address; 0 is no limit.")  # fmt: skip
@click.option("--database", default="", metavar="URL",
              help="PostgreSQL instead of a file: postgresql://user@host/name. Kept for the next time.")  # fmt: skip
@click.option("--bucket", default="", metavar="URL",
              help="S3 instead of a folder: s3://bucket/prefix, keys from AWS_*. Kept for the next time.")  # fmt: skip
@click.option("--redirect/--no-redirect", default=True, show_default=True,
              help="Let clients fetch large files from the bucket itself, where they can reach it.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output when ready.")
def command(
    root: Path | None, host: str, port: int, public_url: str, files_url: str, rate: int, database: str,
    bucket: str, redirect: bool, as_json: bool,
) -> None:  # fmt: skip
    """Serve a hub. The first start makes the account 'admin' and shows its token, once.

    Clients need no more than HF_ENDPOINT set to its address. Stop it with Ctrl-C or `nomoat stop`.
    """
    require_hub()
    from nomoat.base.settings import Settings
    from nomoat.server.hub.hub import HubConfig, Limits
    from nomoat.server.hub.serving import HubOptions, serve_hub

    config = HubConfig(host, public_url.rstrip("/"), files_url.rstrip("/"), redirect,
                       Limits(requests_per_minute=rate))  # fmt: skip
    options = HubOptions(
        registry_config(root, database, bucket), config, port, Settings.from_environment().home
    )
    serve_hub(options, lambda ready: _ready(ready, as_json))


def _ready(ready: Ready, as_json: bool) -> None:
    if as_json:
        token = {"admin_token": ready.admin_token} if ready.admin_token else {}
        print_json({"url": ready.url, "pid": ready.pid, **token})
        return
    click.echo(f"the hub answers at {ready.url}")
    if ready.admin_token:
        click.echo(f"token of 'admin', shown this once: {ready.admin_token}")
    click.echo(f"clients: HF_ENDPOINT={ready.url}   Ctrl-C stops it.", err=True)
