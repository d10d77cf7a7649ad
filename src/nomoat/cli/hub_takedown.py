"""`nomoat hub takedown`: remove something from view, for a reason that is signed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nomoat.base.errors import InputError, NotFoundError
from nomoat.cli.hub_root import admin_of, opened_registry, repo_named, root_option
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.share.registry.accounts import Identity
    from nomoat.share.registry.moderation.tombstones import Target
    from nomoat.share.registry.registry import Registry

__all__ = ["command"]


@click.command("takedown")
@click.argument("what", metavar="REPO[@REVISION][:FILE]")
@root_option
@click.option("--reason", required=True, metavar="TEXT", help="Why. Everybody can read it.")
@click.option("--files-too", is_flag=True,
              help="Nobody may send the large files of that repository again, under any name.")  # fmt: skip
@click.option("--undo", is_flag=True, help="Let it come back.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(what: str, root: Path | None, reason: str, files_too: bool, undo: bool, as_json: bool) -> None:
    """Take down OWNER/NAME, or datasets/OWNER/NAME: it is shown to nobody any more, with the reason in its place.

    With :FILE only that file is not served any more, wherever it is; with @REVISION every large file of that version.
    A digest, sha256:..., does as well. The statement is signed by this hub, and its mirrors do the same. Nothing is
    erased.
    """
    with opened_registry(root) as registry:
        who = admin_of(registry)
        targets = _targets(registry, who, what)
        for target in targets:
            if undo:
                registry.takedowns.restore(who, target, reason)
            else:
                registry.takedowns.take_down(who, target, reason, also_blobs=files_too)
    if as_json:
        print_json({"targets": [_words(each) for each in targets], "reason": reason, "restored": undo})
        return
    for each in targets:
        click.echo(f"{_words(each)}: {'restored' if undo else 'taken down'}")


def _targets(registry: Registry, who: Identity, what: str) -> list[Target]:
    """A repository, or the digests of files in it."""
    from nomoat.share.names import MAIN, check_digest

    if what.startswith("sha256:"):
        return [check_digest(what)]
    named, _, path = what.partition(":")
    place, at, revision = named.partition("@")
    name = repo_named(place)
    if not at and not path:
        return [name]
    history = registry.history
    commit = history.resolve(registry.repos.get(who, name), revision or MAIN)
    if path:
        entry = history.entry(commit, path)
        if not entry.digest:
            raise InputError(f"{path} of {name} is a folder", "name a file in it")
        return [entry.digest]
    large = sorted({each.digest for each in history.files(commit) if each.lfs and each.digest})
    if not large:
        raise NotFoundError(
            f"{name}@{revision} has no large files", f"name a file of it: {name}@{revision}:FILE"
        )
    return list(large)


def _words(target: Target) -> str:
    return target if isinstance(target, str) else f"{target.kind} {target}"
