"""`nomoat hub backup`: copy a hub to a folder while it works."""

from __future__ import annotations

from pathlib import Path

import click

from nomoat.cli.hub_root import opened_registry, root_option
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.command("backup")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@root_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(folder: Path, root: Path | None, as_json: bool) -> None:
    """Copy the hub into FOLDER: database, files and keys, every byte verified.

    Again into the same FOLDER copies only what is new. Keep it as safe as the hub: it holds the hub's key.
    """
    from nomoat.cli.progress import TerminalProgress

    with opened_registry(root) as registry:
        from nomoat.share.registry.backup import back_up

        report = back_up(registry, folder, TerminalProgress())
    if as_json:
        print_json(report.as_json())
        return
    click.echo(
        f"{folder}: {report.blobs:,} blobs, {report.bytes / 1e6:,.1f} MB; {report.copied_blobs:,} were new"
    )
