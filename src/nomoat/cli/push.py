"""`nomoat push`: send an adapter, a model or a folder to a hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nomoat.base.errors import InputError
from nomoat.cli.output import print_json
from nomoat.cli.store_output import size_words

if TYPE_CHECKING:
    from nomoat.share.client.connection import Connection
    from nomoat.share.client.references import Reference

__all__ = ["command"]


@click.command("push", short_help="Send a model, an adapter or a folder to a hub.")
@click.argument("what", metavar="PATH_OR_NAME")
@click.argument("to", metavar="HOST/OWNER/NAME")
@click.option("--private", is_flag=True, help="A new repository is seen by you alone.")
@click.option("--message", metavar="TEXT", default="", help="What changed.")
@click.option("--licence", metavar="SPDX", help="The licence that you give it, such as Apache-2.0.")
@click.option("--allow", "allowed", multiple=True, metavar="CODE",
              help="Push in spite of an objection, by its code; may be repeated.")  # fmt: skip
@click.option("--no-sign", is_flag=True, help="Do not sign it with your key.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(what: str, to: str, as_json: bool, **options: Any) -> None:
    """Send PATH_OR_NAME (a name of `nomoat list`, a .gguf file, or a folder) to HOST/OWNER/NAME.

    A data set goes to HOST/datasets/OWNER/NAME. Of an adapter only itself and its card are sent: reports, logs and the
    text that it was trained on stay here. Files that the hub has are not sent again.
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
    content = _push(what, reference, TerminalProgress(), **options)
    if as_json:
        print_json(content)
    else:
        _say(content)


def _push(what: str, reference: Reference, progress: Any, *, private: bool, message: str, licence: str | None,
          allowed: tuple[str, ...], no_sign: bool) -> dict[str, Any]:  # fmt: skip
    from nomoat.share.client.connection import Connection
    from nomoat.share.client.outgoing import gather
    from nomoat.share.client.push import Pusher, PushOptions
    from nomoat.share.client.tokens import Tokens
    from nomoat.share.names import MAIN
    from nomoat.store.store import Store

    store = Store.from_environment()
    with Connection(reference.hub, Tokens(store.home).find(reference.hub)) as connection:
        _require_token(connection)
        outgoing = gather(store, what, progress)
        pusher = Pusher(connection, reference.repo, progress)
        created = pusher.create(private)
        branch = reference.revision or MAIN
        pushed = pusher.push(outgoing, PushOptions(message, private, branch), pusher.head(branch))
    return {
        "reference": reference.repo_text, "kind": outgoing.kind, "commit": pushed.commit, "url": pushed.url,
        "created": created, "changed": pushed.is_new, "files": pushed.files, "bytes": outgoing.size_bytes,
        "sent_bytes": pushed.sent_bytes, "base_digest": outgoing.base_digest or None,
    }  # fmt: skip


def _require_token(connection: Connection) -> None:
    from nomoat.share.errors import UnauthorizedError

    if not connection.has_token:
        host = connection.hub.host
        raise UnauthorizedError(f"{host} takes files only from people that it knows", f"nomoat login {host}")


def _say(content: dict[str, Any]) -> None:
    if not content["changed"]:
        click.echo(f"{content['reference']} has all of it already (commit {content['commit'][:10]})")
        return
    click.echo(f"{content['reference']}: {content['files']} files, {size_words(content['sent_bytes'])} sent, "
               f"commit {content['commit'][:10]}")  # fmt: skip
    click.echo(content["url"])
