"""`nomoat measure audit`: what an adapter gives away of its training text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from nomoat.cli.complete import complete_models
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.command("audit", short_help="Ask an adapter for the text that it was trained on.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--base", default="smollm2", show_default=True, shell_complete=complete_models,
              help="The model that it was trained on.")  # fmt: skip
@click.option("--texts", type=click.IntRange(1, 100_000), default=100, show_default=True,
              help="Most texts to ask for.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(folder: Path, base: str, texts: int, as_json: bool) -> None:
    """Show the adapter in FOLDER how its training texts begin, and count those that it continues word for word.

    FOLDER is one that `nomoat tune` finished, with its dataset. The result is kept there as audit.json, without any
    text.
    """
    from nomoat.base.settings import Settings
    from nomoat.cli.progress import TerminalProgress
    from nomoat.measure.memorising import audit_adapter
    from nomoat.run.engine import Engine
    from nomoat.store.store import Store

    settings, progress = Settings.from_environment(), TerminalProgress()
    model = Store(settings.home, settings).resolve(base, progress)
    with Engine(model, settings=settings, progress=progress) as engine:
        audit = audit_adapter(folder, engine, most_texts=texts, progress=progress)
    if as_json:
        print_json(asdict(audit))
    elif not audit.tested:
        click.echo(
            f"none of {audit.too_short} texts has {audit.verbatim_tokens} tokens: nothing to tell from chance"
        )
    else:
        click.echo(f"{audit.memorised} of {audit.tested} training texts came back word for word"
                   f" (95 % interval: up to {audit.share_high or 0:.0%} of them all)")  # fmt: skip
