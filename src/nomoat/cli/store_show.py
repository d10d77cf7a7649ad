"""`nomoat show`: what one model or adapter is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nomoat.cli.complete import complete_names_or_files
from nomoat.cli.output import print_json
from nomoat.cli.store_output import console, count_words, model_json, size_words

if TYPE_CHECKING:
    from nomoat.store.records import StoredModel
    from nomoat.store.store import Store

__all__ = ["command"]


@click.command("show")
@click.argument("name", shell_complete=complete_names_or_files)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(name: str, as_json: bool) -> None:
    """Show what the model or adapter NAME (or a GGUF file) is: digest, architecture, licence, size; an adapter's base.

    Where a model and an adapter have the same name, it is the model.
    """
    from nomoat.store.store import Store

    store = Store.from_environment()
    if name in store.adapters() and not store.has_model(name):
        _show_adapter(store, name, as_json)
        return
    model = store.resolve(name)
    if as_json:
        print_json(model_json(model))
    else:
        _print(_rows(model))


def _show_adapter(store: Store, name: str, as_json: bool) -> None:
    from nomoat.cli.store_adapter import adapter_json, adapter_rows

    content = adapter_json(store, name)
    if as_json:
        print_json(content)
    else:
        _print(adapter_rows(content))


def _print(rows: list[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for label, value in rows:
        table.add_row(Text(label, style="bold"), Text(value))
    console().print(table)


def _rows(model: StoredModel) -> list[tuple[str, str]]:
    context = f"{model.context_length:,} tokens" if model.context_length else "not stated"
    rows = [
        ("name", model.name),
        ("digest", model.digest),
        ("architecture", model.architecture),
        ("parameters", f"{count_words(model.parameters)} ({model.parameters:,})"),
        ("quantisation", model.quantisation),
        ("context length", context),
        ("licence", model.licence or "not stated"),
        ("size", f"{size_words(model.size_bytes)} ({model.size_bytes:,} bytes)"),
        ("file", str(model.path)),
        ("source", model.source),
    ]
    if model.parent_digest:
        rows.append(("requantised from", model.parent_digest))
        rows += [(key.replace("_", " "), str(value)) for key, value in model.details.items()]
    return rows
