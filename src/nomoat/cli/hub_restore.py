"""`nomoat hub restore`: a hub from a backup."""

from __future__ import annotations

from pathlib import Path

import click

from nomoat.cli.hub_root import registry_config, require_hub, root_option
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.command("restore")
@click.argument("source", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER")
@root_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(source: Path, root: Path | None, as_json: bool) -> None:
    """Make a hub from the backup in FOLDER. Every file is verified; the hub's own folder must be empty."""
    require_hub()
    from nomoat.cli.progress import TerminalProgress
    from nomoat.share.registry.upkeep.backup import restore

    target = registry_config(root).root
    found = restore(source, target, TerminalProgress())
    if as_json:
        print_json({"root": str(target), **vars(found)})
    else:
        click.echo(f"{target}: {found.blobs:,} files of {found.bytes / 1e6:,.1f} MB, as of {found.created}")
