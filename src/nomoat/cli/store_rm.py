"""`nomoat rm`: remove a model or an adapter from the store."""

from __future__ import annotations

import click

from nomoat.cli.complete import complete_names
from nomoat.cli.output import print_json
from nomoat.cli.store_output import size_words

__all__ = ["command"]


@click.command("rm")
@click.argument("name", shell_complete=complete_names)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(name: str, as_json: bool) -> None:
    """Remove NAME from the store. A model's file goes when no other name needs it."""
    from nomoat.store.embedded import EMBEDDED_NAME
    from nomoat.store.store import Store

    store = Store.from_environment()
    if name in store.adapters() and not store.has_model(name):
        store.remove_adapter(name)
        freed_bytes, note = None, ""
    else:
        removed = store.remove(name)
        freed_bytes = sum(model.size_bytes for model in removed if not model.path.exists())
        note = "; it comes back when you next use it by name" if name == EMBEDDED_NAME else ""
    if as_json:
        print_json({"removed": name, "freed_bytes": freed_bytes, "note": note.lstrip("; ")})
    else:
        freed = f" ({size_words(freed_bytes)} of the store)" if freed_bytes else ""
        click.echo(f"removed {name}{freed}{note}")
