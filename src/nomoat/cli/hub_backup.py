"""`nomoat hub backup`: a copy of a hub, taken while it runs."""

from __future__ import annotations

from pathlib import Path

import click

from nomoat.cli.hub_root import opened_registry, root_option
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.command("backup")
@click.argument("target", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER")
@root_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(target: Path, root: Path | None, as_json: bool) -> None:
    """Copy a hub into FOLDER, which may hold an earlier backup: then only what is new is copied.

    FOLDER holds the hub's keys and everything private: keep it as safe as the hub.
    """
    with opened_registry(root) as registry:
        from nomoat.cli.progress import TerminalProgress
        from nomoat.share.registry.upkeep.backup import back_up

        found = back_up(registry, target, TerminalProgress())
    if as_json:
        print_json(vars(found))
    else:
        click.echo(
            f"{found.blobs:,} files of {found.bytes / 1e6:,.1f} MB, {found.copied_bytes / 1e6:,.1f} MB of it new"
        )
