"""`nomoat list`: the models and adapters in the store."""

from __future__ import annotations

import click

from nomoat.cli.output import print_json
from nomoat.cli.store_output import console, count_words, model_json, size_words

__all__ = ["command"]


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: models, adapters.")
def command(as_json: bool) -> None:
    """Show the models and adapters in the store."""
    from nomoat.store.store import Store

    store = Store.from_environment()
    models, adapters = store.list(), store.adapters()
    if as_json:
        print_json({"models": [model_json(model) for model in models], "adapters": list(adapters)})
        return
    from rich.table import Table

    table = Table("NAME", "SIZE", "PARAMETERS", "QUANTISATION", "ARCHITECTURE", "LICENCE", box=None)
    for model in models:
        table.add_row(
            model.name, size_words(model.size_bytes), count_words(model.parameters), model.quantisation,
            model.architecture, model.licence or "not stated",
        )  # fmt: skip
    console().print(table if models else "no models yet: nomoat import FILE.gguf --name NAME", markup=False)
    if adapters:
        console().print(f"adapters: {', '.join(adapters)}", markup=False)
