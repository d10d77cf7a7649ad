"""`nomoat hub restore`: make a hub from a backup."""

from __future__ import annotations

from pathlib import Path

import click

from nomoat.cli.hub_root import registry_config, require_hub, root_option
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.command("restore")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@root_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(folder: Path, root: Path | None, as_json: bool) -> None:
    """Make a hub from the backup in FOLDER, every byte verified; the hub's own folder must be empty."""
    require_hub()
    from nomoat.cli.progress import TerminalProgress
    from nomoat.share.registry.backup import restore

    target = registry_config(root).root
    report = restore(folder, target, TerminalProgress())
    if as_json:
        print_json(report.as_json())
        return
    click.echo(f"{target}: {report.blobs:,} blobs, {report.bytes / 1e6:,.1f} MB restored")
