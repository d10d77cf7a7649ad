"""`nomoat pull`: fetch a model or an adapter from a hub into the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nomoat.base.errors import InputError, MissingExtraError
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.share.client.pull import Puller, PullPlan
    from nomoat.share.client.pulled import Pulled

__all__ = ["command"]


@click.command("pull", short_help="Fetch a model or an adapter from a hub.")
@click.argument("name")
@click.option(
    "--as", "local_name", metavar="NAME", help="Its name in the store.  [default: from the repository's]"
)
@click.option("--revision", metavar="REV", help="Branch, tag or commit.  [default: main]")
@click.option("--to", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Fetch all files into FOLDER instead of the store.")  # fmt: skip
@click.option("--force", is_flag=True, help="Let the name stand for this even if it names another one.")
@click.option(
    "--trust-new-key", is_flag=True, help="Accept that its owner signs with another key than before."
)
@click.option("--connections", type=click.IntRange(1, 32), default=4, show_default=True,
              help="Parts to fetch at the same time.")  # fmt: skip
@click.option("--limit-rate", metavar="SIZE", help="Most bytes per second, such as 2MB.")
@click.option("--yes", is_flag=True, help="Pull the base of an adapter, too, without asking.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    name: str, revision: str | None, folder: Path | None, yes: bool, as_json: bool, **options: Any
) -> None:
    """Fetch NAME: hf.co/OWNER/NAME[:QUANTISATION][@REVISION], HOST/OWNER/NAME, or the address of such a page; or what
    somebody in this network shares: lan/NAME.

    Every byte is compared with the digest that the hub announces. What was fetched stays when this is
    interrupted: run it again, and it goes on.
    """
    _require_parts()
    from nomoat.cli.hub_names import offer_base
    from nomoat.cli.progress import TerminalProgress
    from nomoat.cli.pull_lan import pull_from_lan
    from nomoat.share.client.pull import Puller
    from nomoat.share.client.references import is_reference, parse_reference
    from nomoat.store.store import Store

    if name.startswith("lan/"):
        pull_from_lan(name, options["local_name"], as_json)
        return
    if not is_reference(name):
        raise InputError(f"{name!r} names nothing on a hub",
                         "write HOST/OWNER/NAME, such as hf.co/owner/name:Q4_K_M")  # fmt: skip
    store = Store.from_environment()
    with Puller(store, TerminalProgress()) as puller:
        reference, chosen = parse_reference(name, revision or ""), _options(**options)
        if folder is not None:
            _pull_folder(puller, reference, folder, chosen, as_json)
            return
        plan = puller.plan(reference, chosen)
        pulled = puller.pull(plan)
        content = _pulled_json(store, pulled, plan)
        if as_json:
            print_json(content)
        else:
            _say(content)
        offer_base(puller, store, content, yes=yes, ask=not as_json)


def _require_parts() -> None:
    from importlib.util import find_spec

    for package in ("httpx", "cryptography"):
        if find_spec(package) is None:
            raise MissingExtraError("share", package)


def _pull_folder(puller: Puller, reference: Any, folder: Path, options: Any, as_json: bool) -> None:
    from nomoat.cli.progress import TerminalProgress
    from nomoat.share.client.files import fetch_folder

    snapshot = fetch_folder(puller, reference, folder, options.transfer, TerminalProgress())
    if as_json:
        size = sum(file.size_bytes for file in snapshot.files)
        print_json({"kind": "folder", "reference": str(reference), "commit": snapshot.commit, "bytes": size,
                    "files": len(snapshot.files), "path": str(folder.absolute())})  # fmt: skip
    else:
        click.echo(f"{folder}: {len(snapshot.files)} files of {reference}")


def _pulled_json(store: Any, pulled: Pulled, plan: PullPlan) -> dict[str, Any]:
    """The stable form of `nomoat pull NAME --json`."""
    from nomoat.share.client.bases import base_digest, declared_base

    adapter = store.resolve_adapter(pulled.name) if pulled.kind == "adapter" else None
    base = base_digest(adapter) if adapter is not None else ""
    known = store.find_digest(base) if base else None
    return {
        "kind": pulled.kind, "name": pulled.name, "reference": pulled.reference, "commit": pulled.commit,
        "digest": pulled.digest, "bytes": plan.selection.size_bytes,
        "fetched_bytes": 0 if plan.known else pulled.fetched_bytes,
        "signature": pulled.signature, "signer": pulled.signer or None,
        "path": str(adapter or store.resolve(pulled.name).path),
        "trained_on": pulled.trained_on or None, "base_digest": base or None, "base": known.name if known else None,
        "declared_base": declared_base(adapter) if adapter is not None else "",
    }  # fmt: skip


def _options(*, local_name: str | None, force: bool, trust_new_key: bool, connections: int,
             limit_rate: str | None) -> Any:  # fmt: skip
    from nomoat.cli.sizes import parse_rate
    from nomoat.share.client.download import Transfer
    from nomoat.share.client.pull import PullOptions

    rate = parse_rate(limit_rate) if limit_rate else None
    return PullOptions(local_name or "", force, trust_new_key, Transfer(connections, rate))


def _say(content: dict[str, Any]) -> None:
    click.echo(f"{content['kind']} {content['name']}: {content['digest'][:19]}...; {content['signature']}")
    if content["trained_on"]:
        click.echo(f"trained on {content['trained_on'][:19]}... by its signed provenance")
    if content["kind"] == "model":
        click.echo(f"try  nomoat run {content['name']}")
    elif content["base"]:
        click.echo(f"try  nomoat run {content['base']} --adapter {content['name']}")
