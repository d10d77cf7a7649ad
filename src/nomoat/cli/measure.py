"""`nomoat measure`: what a model is worth. `nomoat measure NAME` is short for `nomoat measure model NAME`."""

from __future__ import annotations

import importlib

import click

__all__ = ["command"]

_PARTS = {
    "model": ("nomoat.cli.measure_model", "Measure one model, or two beside each other."),
    "audit": ("nomoat.cli.measure_audit", "Ask an adapter for the text that it was trained on."),
    "compare": ("nomoat.cli.measure_compare", "Compare two reports item by item."),
    "pareto": ("nomoat.cli.measure_pareto", "Quality against size and speed over several reports."),
}


class _MeasureGroup(click.Group):
    """A group whose first word may be the model's name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(_PARTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the part's module and return its command."""
        if cmd_name not in _PARTS:
            return None
        part: click.Command = importlib.import_module(_PARTS[cmd_name][0]).command
        return part

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What is no part is the name of a model, or an option before it."""
        if args and args[0] not in {*_PARTS, "-h", "--help"}:
            args = ["model", *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the parts from the table, so that `--help` imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _PARTS.items()])


@click.command("measure", cls=_MeasureGroup, short_help="Measure speed, memory and quality.")
def command() -> None:
    """Measure speed, memory and quality of a model.

    `nomoat measure NAME` is short for `nomoat measure model NAME`.
    """
