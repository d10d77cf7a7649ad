"""`nomoat tune`: own text in, a proven adapter out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nomoat.base.errors import InputError
from nomoat.cli.complete import complete_models
from nomoat.cli.output import print_json

__all__ = ["command"]


@click.command("tune", short_help="Train an adapter on your own text.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--base",
    default="smollm2",
    show_default=True,
    shell_complete=complete_models,
    help="Model to adapt: a name in the store or on a hub, or a .gguf file.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the adapter.")
@click.option("--epochs", type=float, help="Passes over the text (3 unless another bound is given).")
@click.option("--budget", metavar="TIME", help="Time for everything, such as 10m or 1h30m.")
@click.option("--by", metavar="HH:MM", help="Be done by this time of day.")
@click.option("--max-steps", type=int, help="Optimiser steps.")
@click.option("--learning-rate", type=float, help="Peak learning rate.  [default: 0.001]")
@click.option("--r", type=int, help="Rank of the adapter.  [default: 16]")
@click.option("--alpha", type=float, help="lora_alpha; the adapter is scaled by alpha / r.  [default: 32]")
@click.option("--target-modules", metavar="NAMES", help="Comma-separated linears.  [default: all seven]")
@click.option("--max-length", type=int, help="Longest document in tokens.  [default: 1024]")
@click.option("--batch-tokens", type=int, help="Tokens of one optimiser step.  [default: 2048]")
@click.option("--seed", type=int, help="Order of the data and start of the adapter.  [default: 0]")
@click.option(
    "--train-on",
    type=click.Choice(["assistant", "all"]),
    help="Which turns of a chat to learn.  [default: assistant]",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "fp32"]),
    help="Compute type.  [default: auto, by a probe]",
)
@click.option("--memory", metavar="SIZE", help="Most memory to use, such as 6GB.")
@click.option("--recipe", type=click.Path(path_type=Path), help="TOML file with any of these options.")
@click.option("--resume", is_flag=True, help="Go on with the unfinished run in --out.")
@click.option("--yes", is_flag=True, help="Pull what a hub's name stands for without asking.")
@click.option("--skip-bad", is_flag=True, help="Leave unreadable files out instead of stopping.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(path: Path, base: str, out: Path, recipe: Path | None, resume: bool, skip_bad: bool,
            yes: bool, as_json: bool, **options: Any) -> None:  # fmt: skip
    """Train a LoRA adapter on PATH: a folder of Markdown, text or reStructuredText, or JSONL chats.

    The adapter is trained on the packed weights of the very file that will serve it. A part of the text is held
    out to show what was learned.
    """
    from nomoat.cli.hub_names import local_model
    from nomoat.cli.tune_job import build_config, run_tune

    base, adapters = local_model(base, yes=yes)
    if adapters:
        raise InputError(f"{adapters[0]} is an adapter: training starts from a model", f"give --base {base}")
    config = build_config(options, recipe)
    result, _ = run_tune(path, base, out, config, resume=resume, skip_bad=skip_bad)
    if as_json:
        print_json(result.as_json())
