"""`nomoat export`: write a stored model to a file of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from nomoat.cli.complete import complete_models
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.command("export")
@click.argument("name", shell_complete=complete_models)
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace DESTINATION if it exists.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(name: str, destination: Path, force: bool, as_json: bool) -> None:
    """Write the model NAME to DESTINATION, a file or an existing folder, and compare its digest."""
    from nomoat.cli.progress import TerminalProgress
    from nomoat.store.store import Store

    store = Store.from_environment()
    written = store.export(name, destination, TerminalProgress(), overwrite=force)
    if as_json:
        model = store.resolve(name)
        print_json({"path": str(written), "digest": model.digest, "bytes": model.size_bytes})
    else:
        click.echo(f"wrote {written}")
