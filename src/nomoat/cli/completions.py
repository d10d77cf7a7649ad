"""`nomoat completions`: the script that teaches a shell to complete nomoat's verbs, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["command"]

_VARIABLE = "_NOMOAT_COMPLETE"  # click's own name for a program called nomoat


@click.command("completions")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that lets SHELL complete nomoat's verbs, options, models and adapters.

    \b
    bash:  nomoat completions bash > ~/.local/share/bash-completion/completions/nomoat
    zsh:   nomoat completions zsh > a file named _nomoat in a folder of $fpath
    fish:  nomoat completions fish > ~/.config/fish/completions/nomoat.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, "nomoat", _VARIABLE).source())
