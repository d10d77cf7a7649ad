"""Names on hubs where a model or an adapter is asked for: found in the store without a network, else offered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nomoat.base.errors import InputError, NotFoundError
from nomoat.cli.store_output import size_words

if TYPE_CHECKING:
    from nomoat.share.client.pull import Puller
    from nomoat.share.client.pulled import Pulled
    from nomoat.share.client.references import Reference
    from nomoat.store.store import Store

__all__ = ["local_adapter", "local_model", "offer_base"]


def local_model(name: str, *, yes: bool) -> tuple[str, list[str]]:
    """`(model, adapters)` of the store that `name` stands for: an adapter on a hub comes with its base.

    Other names are returned as they are. What is not in the store is pulled with `yes`, or after a question at a
    terminal; without one, `NotFoundError` names the command.
    """
    pulled = _find(name, yes=yes)
    if pulled is None:
        return name, []
    if pulled.kind == "model":
        return pulled.name, []
    return _base_of(pulled, yes=yes), [pulled.name]


def local_adapter(name: str, *, yes: bool) -> str:
    """The adapter of the store that `name` stands for; as `local_model`."""
    pulled = _find(name, yes=yes)
    if pulled is None:
        return name
    if pulled.kind != "adapter":
        raise InputError(f"{pulled.reference} is a model, not an adapter", f"nomoat run {pulled.reference}")
    return pulled.name


def offer_base(puller: Puller, store: Store, content: dict[str, Any], *, yes: bool, ask: bool = True) -> None:
    """Say where the base of a pulled adapter is to be had where the store has none, and pull it if wanted."""
    from nomoat.share.client.bases import base_on_hub
    from nomoat.share.client.references import parse_hub, parse_reference

    digest = content["base_digest"]
    if content["kind"] != "adapter" or content["base"]:
        return
    if not digest:
        declared = f" ({content['declared_base']}, it says)" if content["declared_base"] else ""
        click.echo(f"it does not pin the file that it was trained on{declared}", err=True)
        return
    connection = puller.connection(parse_hub(content["reference"].partition("/")[0]))
    place = base_on_hub(connection, digest)
    if place is None:
        declared = f", which it calls {content['declared_base']}" if content["declared_base"] else ""
        click.echo(
            f"its base {digest[:19]}...{declared} is not in the store: import or pull that file", err=True
        )
        return
    reference = parse_reference(place)
    click.echo(f"its base is not in the store: nomoat pull {place}", err=True)
    if yes or (ask and _at_terminal()):
        _pull(puller, reference, yes=yes)


def _find(name: str, *, yes: bool) -> Pulled | None:
    from nomoat.share.client.pulled import PulledNames
    from nomoat.share.client.references import is_reference, parse_reference
    from nomoat.store.store import Store

    if not is_reference(name) or Path(name).expanduser().exists():
        return None
    reference, store = parse_reference(name), Store.from_environment()
    known = PulledNames(store).find(reference)
    if known is not None:
        return known
    if not yes and not _at_terminal():
        raise NotFoundError(f"{reference} is not in the store", f"nomoat pull {name}")
    return _pull_new(store, reference, yes=yes)


def _pull_new(store: Store, reference: Reference, *, yes: bool) -> Pulled:
    from nomoat.cli.progress import TerminalProgress
    from nomoat.share.client.pull import Puller

    with Puller(store, TerminalProgress()) as puller:
        return _pull(puller, reference, yes=yes)


def _pull(puller: Puller, reference: Reference, *, yes: bool) -> Pulled:
    plan = puller.plan(reference)
    question = f"Pull {size_words(plan.missing_bytes)} from {reference.hub.host}?"
    if plan.missing_bytes and not yes and not click.confirm(question, default=True, err=True):
        raise click.Abort
    return puller.pull(plan)


def _base_of(pulled: Pulled, *, yes: bool) -> str:
    from nomoat.cli.progress import TerminalProgress
    from nomoat.share.client.bases import base_digest, base_on_hub
    from nomoat.share.client.pull import Puller
    from nomoat.share.client.references import parse_hub, parse_reference
    from nomoat.store.store import Store

    store = Store.from_environment()
    digest = base_digest(store.resolve_adapter(pulled.name))
    if not digest:
        raise InputError(f"{pulled.reference} does not say which model it was trained on",
                         f"name it: nomoat run MODEL --adapter {pulled.name}")  # fmt: skip
    if (model := store.find_digest(digest)) is not None:
        return model.name
    missing = f"the base of {pulled.reference} ({digest[:19]}...) is not in the store"
    if not yes and not _at_terminal():
        raise NotFoundError(missing, f"nomoat pull {pulled.reference} --yes")
    with Puller(store, TerminalProgress()) as puller:
        place = base_on_hub(puller.connection(parse_hub(pulled.repo.partition("/")[0])), digest)
        if place is None:
            raise NotFoundError(missing, "import the file, or pull it from where it is")
        return _pull(puller, parse_reference(place), yes=yes).name


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
