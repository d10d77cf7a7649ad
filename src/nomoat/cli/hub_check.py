"""`nomoat hub check`: fsck of a hub."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nomoat.cli.hub_root import opened_registry, root_option
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.share.registry.upkeep.check import Problem

__all__ = ["command"]


@click.command("check")
@root_option
@click.option("--quick", is_flag=True, help="Look at sizes only; read no content.")
@click.option("--repair", "mend", is_flag=True, help="Mend first what can be mended without losing anything.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(root: Path | None, quick: bool, mend: bool, as_json: bool) -> int:
    """Look at everything that a hub promised to keep: files, folders, versions, its index and its log.

    The hub may run meanwhile. The exit status is 1 where something is wrong. With --repair derived data is made anew
    (checksums, the index, what is noted of each repository), and records without a file that nothing holds are
    dropped. A damaged file stays: it may be the only copy.
    """
    with opened_registry(root) as registry:
        from nomoat.cli.progress import TerminalProgress
        from nomoat.share.registry.upkeep.check import check
        from nomoat.share.registry.upkeep.repair import repair

        progress = TerminalProgress()
        repaired = repair(registry, quick=quick, progress=progress) if mend else ()
        found = check(registry, quick=quick, progress=progress)
    if as_json:
        more = {"repaired": [asdict(each) for each in repaired]} if mend else {}
        problems = [{**asdict(each), "remedy": each.remedy} for each in found.problems]
        print_json({**asdict(found), "problems": problems, **more})
        return int(bool(found.problems))
    for each in repaired:
        click.echo(f"mended: {each.kind} {each.what}: {each.done}")
    for problem in found.problems:
        click.echo(f"{problem.kind} {problem.what}: {problem.problem}")
    for remedy, kinds in _remedies(found.problems).items():
        click.echo(f"hint ({', '.join(kinds)}): {remedy}")
    click.echo(
        f"{found.repos:,} repositories, {found.commits:,} versions, {found.blobs:,} files of"
        f" {found.bytes / 1e6:,.1f} MB: {len(found.problems) or 'no'} problem{'s'[: len(found.problems) != 1]}"
    )
    return int(bool(found.problems))


def _remedies(problems: tuple[Problem, ...]) -> dict[str, list[str]]:
    """Each remedy once, with the kinds of problems that it is for."""
    found: dict[str, list[str]] = {}
    for problem in problems:
        kinds = found.setdefault(problem.remedy, [])
        if problem.kind not in kinds:
            kinds.append(problem.kind)
    return found
