"""`nomoat cp`: a second name for a model."""

from __future__ import annotations

import click

from nomoat.cli.complete import complete_models
from nomoat.cli.output import print_json
from nomoat.cli.store_output import model_json

__all__ = ["command"]


@click.command("cp")
@click.argument("source", shell_complete=complete_models)
@click.argument("target")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(source: str, target: str, as_json: bool) -> None:
    """Let TARGET name the model of SOURCE too. The file is kept once."""
    from nomoat.store.store import Store

    model = Store.from_environment().copy(source, target)
    if as_json:
        print_json(model_json(model))
    else:
        click.echo(f"{target} is {source}")
