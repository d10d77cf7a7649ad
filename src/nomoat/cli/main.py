"""Entry point: finds the verb, runs it, turns errors into two lines and an exit status."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from nomoat import __version__
from nomoat.base.errors import NomoatError
from nomoat.cli.output import print_error, print_interrupted

__all__ = ["cli", "main"]

# verb -> (module that holds a click command named `command`, one line for `nomoat --help`)
_VERBS = {
    "run": ("nomoat.cli.run", "Chat with a model, or answer one prompt."),
    "tune": ("nomoat.cli.tune", "Train an adapter on your own text."),
    "tour": ("nomoat.cli.tour", "See the whole loop: tune, prove, chat."),
    "list": ("nomoat.cli.store_list", "Models in the store."),
    "show": ("nomoat.cli.store_show", "One model: digest, architecture, licence, size."),
    "import": ("nomoat.cli.store_import", "Add a GGUF file to the store."),
    "cp": ("nomoat.cli.store_cp", "Give a model a second name."),
    "rm": ("nomoat.cli.store_rm", "Remove a model from the store."),
    "export": ("nomoat.cli.store_export", "Write a stored model to a file."),
}


class LazyGroup(click.Group):
    """A group that imports a verb's module only when that verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order of the table, which is the order of a first visit."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its command."""
        if cmd_name not in _VERBS:
            return None
        command: click.Command = importlib.import_module(_VERBS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from the table, so that `--help` imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in _VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nomoat")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """A capable AI of your own: run, tune and prove open models on this machine, offline."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    try:
        sys.exit(cli.main(arguments, prog_name="nomoat", standalone_mode=False))
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print_interrupted(as_json)
        sys.exit(130)
    except NomoatError as error:
        if "--debug" in arguments:
            raise
        print_error(error, as_json)
        sys.exit(1)


if __name__ == "__main__":
    main()
