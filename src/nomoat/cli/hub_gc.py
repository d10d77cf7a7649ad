"""`nomoat hub gc`: garbage collection of a hub."""

from __future__ import annotations

from pathlib import Path

import click

from nomoat.cli.hub_root import opened_registry, root_option
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.command("gc")
@root_option
@click.option("--grace", type=click.FloatRange(0), default=24.0, show_default=True, metavar="HOURS",
              help="Keep what was sent more lately: its commit may be on the way.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(root: Path | None, grace: float, dry_run: bool, as_json: bool) -> None:
    """Clear away what no repository holds any more. The hub may run meanwhile."""
    with opened_registry(root) as registry:
        from nomoat.cli.progress import TerminalProgress
        from nomoat.share.registry.upkeep.garbage import collect

        found = collect(registry, grace_seconds=grace * 3600, dry_run=dry_run, progress=TerminalProgress())
    if as_json:
        print_json({**vars(found), "dry_run": dry_run})
        return
    verb = "would go" if dry_run else "went"
    versions = f"{found.commits:,} versions and " if found.commits else ""
    click.echo(f"{versions}{found.blobs + found.unrecorded:,} files of {found.bytes / 1e6:,.1f} MB {verb}")
