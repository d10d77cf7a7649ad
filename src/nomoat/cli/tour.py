"""`nomoat tour`: the whole loop in a few minutes - tune, prove, chat."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nomoat.base.manifests import MANIFEST_NAME
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.tune.config import TuneConfig

__all__ = ["command"]

_SAMPLES = 6


@click.command("tour", short_help="See the whole loop: tune, prove, chat.")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--base", default="smollm2", show_default=True, help="Model to adapt.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("nomoat-tour"), show_default=True,
              help="Folder for the adapter; a number is added where a finished one lies there.")  # fmt: skip
@click.option("--budget", metavar="TIME", default="8m", show_default=True,
              help="Time for your own FOLDER; the sample takes a fixed number of steps.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(folder: Path | None, base: str, out: Path, budget: str, as_json: bool) -> None:
    """Fine-tune the embedded model on a small sample (or on your own FOLDER), show before and after, then chat.

    The sample is an invented household: 150 facts, each asked in four ways to learn from, and in a fifth, differently
    worded one to be tested on.
    """
    from nomoat.cli.tune_job import run_tune

    started = time.monotonic()
    out, resume = _place(out)
    source = folder or _sample(out)
    result, seen = run_tune(
        source, base, out, _config(folder, budget), resume=resume, examine=True, watched=True
    )
    seconds = time.monotonic() - started
    if as_json:
        print_json(_as_json(result, seen, seconds))
    elif sys.stdin.isatty() and sys.stdout.isatty():
        _chat(base, out)
    else:
        _print_samples(seen)


def _place(out: Path) -> tuple[Path, bool]:
    """A folder without a finished adapter, and whether an unfinished run lies in it to go on with."""
    place, number = out, 1
    while (place / MANIFEST_NAME).is_file():
        number += 1
        place = out.with_name(f"{out.name}-{number}")
    return place, (place / "plan.json").is_file()


def _sample(out: Path) -> Path:
    from nomoat.tune.household.household import write_household

    folder = out.with_name(f"{out.name}-household")
    write_household(folder)
    return folder


def _config(folder: Path | None, budget: str) -> TuneConfig:
    """Small steps and a high rate suit short questions and answers; own text gets the usual ones and a deadline."""
    from nomoat.tune.config import TuneConfig
    from nomoat.tune.planner import parse_budget

    if folder is not None:
        return TuneConfig(budget_seconds=parse_budget(budget))
    return TuneConfig(epochs=3, learning_rate=2e-3, batch_tokens=192, max_length=512)


def _as_json(result: Any, seen: dict[str, Any], seconds: float) -> dict[str, Any]:
    content: dict[str, Any] = {**result.as_json(), "seconds": seconds}
    for when in ("before", "after"):
        share = seen["exact"][when]
        content[when] = {**content[when], "exact": share["exact"], "exact_interval": [share["low"], share["high"]],
                         "questions": share["n"]}  # fmt: skip
    content["reason"] = seen["exact"]["before"]["reason"]
    return content


def _print_samples(seen: dict[str, Any]) -> None:
    """A few held-out questions with both answers, for pipes and logs."""
    samples = seen.get("samples", [])
    for sample in samples[:: max(1, len(samples) // _SAMPLES)][:_SAMPLES]:
        click.echo(f"? {sample['question']}\n  before: {sample['before']}\n  after:  {sample['after']}")


def _chat(base: str, out: Path) -> None:
    """Hand over to `nomoat run` with the adapter that was just made."""
    from nomoat.cli.run import command as run

    click.echo("Now ask it something of your own; Ctrl-D leaves.")
    run.main([base, "--adapter", str(out)], standalone_mode=False)
