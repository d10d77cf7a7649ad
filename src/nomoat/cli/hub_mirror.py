"""`nomoat hub mirror`: public repositories of another hub on this one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nomoat.cli.hub_root import admin_of, opened_registry, repo_named, root_option
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.share.mirroring import Mirror, Mirrored
    from nomoat.share.names import RepoName
    from nomoat.share.registry.moderation.recalls import Honoured

__all__ = ["command"]


@click.command("mirror")
@click.argument("url")
@click.argument("names", metavar="REPO...", nargs=-1, required=True)
@root_option
@click.option("--allow-private", is_flag=True,
              help="Ask addresses of this machine and of private networks, too.")  # fmt: skip
@click.option("--limit-rate", metavar="RATE", help="Bytes per second at most, such as 2MB.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    url: str, names: tuple[str, ...], root: Path | None, allow_private: bool, limit_rate: str | None, as_json: bool
) -> int:  # fmt: skip
    """Bring OWNER/NAME, or datasets/OWNER/NAME, of the hub at URL here, and do what that hub took down.

    Run it again, say every night, to follow: only what changed is fetched, and every byte is verified. The hub may run
    meanwhile. What comes in is inspected as if it were pushed; the exit status is 1 where something was refused.
    """
    from nomoat.cli.progress import TerminalProgress
    from nomoat.cli.sizes import parse_rate
    from nomoat.share.checks.inspect import inspect
    from nomoat.share.client.connection import Connection
    from nomoat.share.client.download import Transfer
    from nomoat.share.client.references import parse_hub
    from nomoat.share.mirroring import Mirror

    wanted = [repo_named(name) for name in names]
    transfer = Transfer(bytes_per_second=parse_rate(limit_rate) if limit_rate else None)
    with opened_registry(root) as registry:
        registry.inspection = inspect
        with Connection(parse_hub(url), only_public=not allow_private) as connection:
            mirror = Mirror(registry, connection, admin_of(registry), TerminalProgress(), transfer)
            recalls = mirror.follow_recalls()
            done = [_refreshed(mirror, name) for name in wanted]
    if as_json:
        print_json(_as_json(done, recalls))
    else:
        _say(done, recalls)
    return int(any(each.outcome == "refused" for each in done))


def _refreshed(mirror: Mirror, name: RepoName) -> Mirrored:
    """What came of a repository; one that may not be here does not keep the others away."""
    from nomoat.share.errors import ForbiddenError, RefusedError, TakenDownError
    from nomoat.share.mirroring import Mirrored

    try:
        return mirror.refresh(name)
    except (ForbiddenError, RefusedError, TakenDownError) as error:
        return Mirrored(str(name), "refused", why=error.message)


def _as_json(done: list[Mirrored], recalls: Honoured) -> dict[str, Any]:
    skipped = [{"target": target, "why": why} for target, why in recalls.skipped]
    return {
        "repos": [asdict(each) for each in done],
        "recalls": {"taken_down": recalls.taken_down, "restored": recalls.restored, "skipped": skipped},
    }


def _say(done: list[Mirrored], recalls: Honoured) -> None:
    for action, targets in (("taken down", recalls.taken_down), ("restored", recalls.restored)):
        for target in targets:
            click.echo(f"{target}: {action}, as its origin did")
    for each in done:
        more = f": {each.why}" if each.why else f" at {each.origin_commit[:12]}"
        count = f", {each.files} files, {each.fetched_bytes / 1e6:,.1f} MB" if each.files else ""
        click.echo(f"{each.name}: {each.outcome}{more}{count}")
