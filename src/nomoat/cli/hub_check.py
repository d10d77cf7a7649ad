"""`nomoat hub check`: is everything that a hub holds there and whole?"""

from __future__ import annotations

from pathlib import Path

import click

from nomoat.cli.hub_root import opened_registry, root_option
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.command("check")
@root_option
@click.option("--quick", is_flag=True, help="Compare sizes instead of reading every byte.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def command(context: click.Context, root: Path | None, quick: bool, as_json: bool) -> None:
    """Read everything again and compare it with its checksums and ids. Ends with 1 where something is damaged.

    Damaged files are marked. The hub may go on working meanwhile.
    """
    from nomoat.cli.progress import TerminalProgress

    with opened_registry(root) as registry:
        from nomoat.share.registry.check import check

        report = check(registry, TerminalProgress(), quick=quick)
    if as_json:
        print_json(report.as_json())
    else:
        for problem in report.problems:
            click.echo(f"{problem.kind} {problem.name}: {problem.message}")
        click.echo(f"{report.blobs:,} blobs ({report.bytes / 1e6:,.1f} MB), {report.commits:,} commits,"
                   f" {report.refs:,} refs: {len(report.problems) or 'no'} problems")  # fmt: skip
    if report.problems:
        context.exit(1)
