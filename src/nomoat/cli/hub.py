"""`nomoat hub`: a place where people put models and data sets, and where others find them."""

from __future__ import annotations

import importlib

import click

__all__ = ["command"]

_PARTS = {
    "serve": ("nomoat.cli.hub_serve", "Answer Hugging Face's clients, and browsers."),
    "user": ("nomoat.cli.hub_user", "The people and organisations of a hub."),
    "token": ("nomoat.cli.hub_token", "Their tokens."),
    "samples": ("nomoat.cli.hub_samples", "Let a model answer, and show that on its page."),
    "takedown": ("nomoat.cli.hub_takedown", "Remove something from view, for a signed reason."),
    "mirror": ("nomoat.cli.hub_mirror", "Follow another hub: its repositories and its takedowns."),
    "check": ("nomoat.cli.hub_check", "Look at everything that a hub promised to keep."),
    "gc": ("nomoat.cli.hub_gc", "Clear away what no repository holds any more."),
    "backup": ("nomoat.cli.hub_backup", "Copy a hub while it runs."),
    "restore": ("nomoat.cli.hub_restore", "Make a hub from a backup."),
}


class _HubGroup(click.Group):
    """A group that imports a part when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(_PARTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the part's module and return its command."""
        if cmd_name not in _PARTS:
            return None
        part: click.Command = importlib.import_module(_PARTS[cmd_name][0]).command
        return part

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the parts from the table, so that `--help` imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _PARTS.items()])


@click.command("hub", cls=_HubGroup, short_help="Run a hub: a place to share models and data sets.")
def command() -> None:
    """Run a hub that anyone can push to and pull from, with Hugging Face's clients or nomoat's own."""
