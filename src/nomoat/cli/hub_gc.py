"""`nomoat hub gc`: delete what no repository of a hub needs any more."""

from __future__ import annotations

from pathlib import Path

import click

from nomoat.cli.hub_root import opened_registry, root_option
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.command("gc")
@root_option
@click.option("--grace", "grace_hours", type=click.FloatRange(0), default=24.0, show_default=True, metavar="HOURS",
              help="Keep what was sent within so many hours: a push may be about to need it.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(root: Path | None, grace_hours: float, dry_run: bool, as_json: bool) -> None:
    """Delete blobs that no commit of any repository holds, and what broken uploads left.

    The hub may go on working meanwhile.
    """
    from nomoat.cli.progress import TerminalProgress

    with opened_registry(root) as registry:
        from nomoat.share.registry.garbage import collect

        found = collect(registry, TerminalProgress(), grace_hours * 3600, dry_run=dry_run)
    if as_json:
        print_json(found.as_json())
        return
    word = "would be deleted" if dry_run else "deleted"
    click.echo(f"{found.blobs + found.unrecorded_blobs:,} blobs {word} ({found.bytes / 1e6:,.1f} MB),"
               f" {found.kept_blobs:,} kept")  # fmt: skip
