"""`nomoat pull lan/NAME`: fetch what machines of this network share."""

from __future__ import annotations

from dataclasses import asdict

import click

from nomoat.cli.output import print_json

__all__ = ["pull_from_lan"]


def pull_from_lan(reference: str, local_name: str | None, as_json: bool) -> None:
    """Find the peers that share `reference`, fetch from all of them, and say what came."""
    from nomoat.cli.progress import TerminalProgress
    from nomoat.share.lan.pull import pull_lan, resolve_lan
    from nomoat.store.store import Store

    store = Store.from_environment()
    pulled = pull_lan(resolve_lan(reference), store, TerminalProgress(), local_name)
    base = store.find_digest(pulled.base_digest) if pulled.base_digest else None
    if as_json:
        print_json({
            "kind": pulled.kind, "name": pulled.name, "reference": reference, "digest": pulled.digest,
            "bytes": pulled.size_bytes, "path": str(pulled.path), "base_digest": pulled.base_digest or None,
            "base": base.name if base else None, "peers": asdict(pulled.fetched),
        })  # fmt: skip
        return
    click.echo(f"{pulled.kind} {pulled.name}: {pulled.digest[:19]}...")
    if pulled.kind == "model":
        click.echo(f"try  nomoat run {pulled.name}")
    elif base:
        click.echo(f"try  nomoat run {base.name} --adapter {pulled.name}")
    elif pulled.base_digest:
        click.echo(f"its base {pulled.base_digest[:19]}... is not in the store", err=True)
