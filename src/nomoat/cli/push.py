"""`nomoat push`: send an adapter, a model or a folder to a hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nomoat.base.errors import InputError
from nomoat.cli.output import print_json
from nomoat.cli.store_output import size_words

if TYPE_CHECKING:
    from pathlib import Path

    from nomoat.share.client.connection import Connection
    from nomoat.share.client.outgoing import Outgoing
    from nomoat.share.client.push import Pusher
    from nomoat.share.client.references import Reference
    from nomoat.share.client.remote import Snapshot
    from nomoat.share.trust.keys import SigningKey

__all__ = ["command"]


@click.command("push", short_help="Send a model, an adapter or a folder to a hub.")
@click.argument("what", metavar="PATH_OR_NAME")
@click.argument("to", metavar="HOST/OWNER/NAME")
@click.option("--private", is_flag=True, help="A new repository is seen by you alone.")
@click.option("--message", metavar="TEXT", default="", help="What changed.")
@click.option("--release", metavar="TAG", help="Make a release of it, such as v1.0: a tag that never moves.")
@click.option("--licence", metavar="SPDX", help="The licence that you give it, such as Apache-2.0.")
@click.option(
    "--data-licence", metavar="SPDX", help="The licence of the training text; 'own' if it is yours to share."
)
@click.option("--allow", "allowed", multiple=True, metavar="CODE",
              help="Push in spite of an objection, by its code; may be repeated.")  # fmt: skip
@click.option("--no-sign", is_flag=True, help="Do not sign it with your key.")
@click.option(
    "--new-key", is_flag=True, help="Let the key of this machine take the place of the one the hub knows."
)
@click.option(
    "--whole",
    is_flag=True,
    help="Send large files as they are, without looking for what the hub has of them.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(what: str, to: str, as_json: bool, **options: Any) -> None:
    """Send PATH_OR_NAME (a name of `nomoat list`, a .gguf file, or a folder) to HOST/OWNER/NAME.

    A data set goes to HOST/datasets/OWNER/NAME. Of an adapter only itself and its card are sent: reports, logs and the
    text that it was trained on stay here. Files that the hub has are not sent again, unless they were damaged there.
    """
    from nomoat.cli.progress import TerminalProgress
    from nomoat.share.client.references import is_reference, parse_reference

    if not is_reference(to):
        raise InputError(
            f"{to!r} names no place on a hub", "write HOST/OWNER/NAME, such as hub.local/me/notes"
        )
    reference = parse_reference(to)
    if reference.selector:
        raise InputError(f"{to!r} names a file or a quantisation", f"push to {reference.repo_text}")
    content = _push(what, reference, TerminalProgress(), options)
    if as_json:
        print_json(content)
    else:
        _say(content)


def _push(what: str, reference: Reference, progress: Any, options: dict[str, Any]) -> dict[str, Any]:
    from nomoat.share.client.connection import Connection
    from nomoat.share.client.outgoing import gather
    from nomoat.share.client.prepare import add_provenance
    from nomoat.share.client.push import Pusher, PushOptions
    from nomoat.share.client.releases import Release
    from nomoat.share.client.tokens import Tokens
    from nomoat.share.names import MAIN
    from nomoat.store.store import Store

    store, branch = Store.from_environment(), reference.revision or MAIN
    with Connection(reference.hub, Tokens(store.home).find(reference.hub)) as connection:
        _require_token(connection)
        pusher = Pusher(connection, reference.repo, progress)
        release = Release(pusher.remote, options["release"]) if options["release"] is not None else None
        head = pusher.head(branch)
        outgoing = _permitted(gather(store, what, progress), pusher, head, options)
        created = head is None and pusher.create(options["private"])
        head = head or pusher.head(branch)
        signer = None if options["no_sign"] else _signer(store.home, connection, options["new_key"])
        outgoing = add_provenance(outgoing, signer.key) if signer else outgoing
        mended = pusher.mend(outgoing, head, branch)
        head = mended.head
        outgoing = _signed(outgoing, pusher, head, signer.key) if signer else outgoing
        if release is not None:
            release.require_free(head.commit if head and pusher.is_there(outgoing, head) else "")
        pushed = pusher.push(outgoing, PushOptions(options["message"], branch, whole=options["whole"]), head)
        stays = release.make(pushed.commit) if release is not None else None
    return {
        "reference": reference.repo_text, "kind": outgoing.kind, "commit": pushed.commit, "url": pushed.url,
        "created": created, "changed": pushed.is_new, "files": pushed.files, "bytes": outgoing.size_bytes,
        "sent_bytes": pushed.sent_bytes + mended.sent_bytes, "mended": mended.files,
        "base_digest": outgoing.base_digest or None, "signer": signer.name if signer else None,
        "release": options["release"], "release_stays": stays,
    }  # fmt: skip


def _require_token(connection: Connection) -> None:
    from nomoat.share.errors import UnauthorizedError

    if not connection.has_token:
        host = connection.hub.host
        raise UnauthorizedError(f"{host} takes files only from people that it knows", f"nomoat login {host}")


def _permitted(
    outgoing: Outgoing, pusher: Pusher, head: Snapshot | None, options: dict[str, Any]
) -> Outgoing:
    """The files with their card, unless something speaks against sharing them."""
    from nomoat.share.cards.permission import CODES, require_permission
    from nomoat.share.client.prepare import Licences, prepare

    unknown = [code for code in options["allowed"] if code not in CODES]
    if unknown:
        raise InputError(
            f"--allow {unknown[0]}: there is no such objection", f"known are: {', '.join(CODES)}"
        )
    licences = Licences(options["licence"] or "", options["data_licence"] or "")
    prepared = prepare(outgoing, pusher.remote, head, licences)
    require_permission(prepared.objections, options["allowed"])
    return prepared.outgoing


class _Signer(NamedTuple):
    name: str
    key: SigningKey


def _signer(home: Path, connection: Connection, new_key: bool) -> _Signer:
    """Who signs, with a key that the hub knows."""
    from nomoat.share.client.search import whoami
    from nomoat.share.client.signed import register_key
    from nomoat.share.trust.keys import owner_key

    name = whoami(connection)
    key = owner_key(home, name)
    register_key(connection, key.public, new_key)
    return _Signer(name, key)


def _signed(outgoing: Outgoing, pusher: Pusher, head: Snapshot | None, key: SigningKey) -> Outgoing:
    """The files with a signature. Those that are there as they are need no new one."""
    from nomoat.share.client.signed import is_signed_by, sign_outgoing

    if head is not None and pusher.is_there(outgoing, head) and is_signed_by(pusher.remote, head, key.public):
        return outgoing
    return outgoing.with_files(sign_outgoing(pusher.remote, outgoing, head, key))


def _say(content: dict[str, Any]) -> None:
    if not content["changed"]:
        click.echo(f"{content['reference']} has all of it already (commit {content['commit'][:10]})")
    else:
        click.echo(f"{content['reference']}: {content['files']} files, {size_words(content['sent_bytes'])} sent, "
                   f"commit {content['commit'][:10]}")  # fmt: skip
        click.echo(content["url"])
    if content["mended"]:
        click.echo(f"{content['mended']} of its files were damaged there, and were sent again")
    if content["release"]:
        _say_release(content)


def _say_release(content: dict[str, Any]) -> None:
    name = f"{content['reference']}@{content['release']}"
    if content["release_stays"]:
        click.echo(f"release {content['release']}: nomoat pull {name}")
        return
    host = content["reference"].partition("/")[0]
    click.echo(f"{host} has no releases that stay: {content['release']} is an ordinary tag there, which can be moved "
               f"or deleted; whoever wants just this version pulls commit {content['commit']}", err=True)  # fmt: skip
