"""Entry point: finds the verb, runs it, turns errors into two lines and an exit status."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
import traceback

import click

from nomoat import __version__
from nomoat.base.errors import DiskFullError, NomoatError, NotEnoughMemoryError
from nomoat.base.settings import calm_openmp
from nomoat.cli.output import print_error, print_error_fields

__all__ = ["VERBS", "cli", "main"]

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}

# verb -> (module that holds a click command named `command`, one line for `nomoat --help`)
VERBS = {
    "run": ("nomoat.cli.run", "Chat with a model, or answer one prompt."),
    "serve": ("nomoat.cli.serve", "Answer requests over HTTP: OpenAI's API and others."),
    "tune": ("nomoat.cli.tune", "Train an adapter on your own text."),
    "measure": ("nomoat.cli.measure", "Measure speed, memory and quality."),
    "tour": ("nomoat.cli.tour", "See the whole loop: tune, prove, chat."),
    "list": ("nomoat.cli.store_list", "Models in the store."),
    "show": ("nomoat.cli.store_show", "One model: digest, architecture, licence, size."),
    "import": ("nomoat.cli.store_import", "Add a GGUF file to the store."),
    "cp": ("nomoat.cli.store_cp", "Give a model a second name."),
    "rm": ("nomoat.cli.store_rm", "Remove a model from the store."),
    "export": ("nomoat.cli.store_export", "Write a stored model to a file."),
    "pull": ("nomoat.cli.pull", "Fetch a model or an adapter from a hub."),
    "push": ("nomoat.cli.push", "Send a model, an adapter or a folder to a hub."),
    "search": ("nomoat.cli.search", "Find models and adapters on a hub."),
    "login": ("nomoat.cli.login", "Keep your token for a hub."),
    "logout": ("nomoat.cli.logout", "Forget your token for a hub."),
    "hub": ("nomoat.cli.hub", "Run a hub: a place to share models and data sets."),
    "share": ("nomoat.cli.share", "Offer models or adapters in this network."),
    "ps": ("nomoat.cli.ps", "Running servers."),
    "stop": ("nomoat.cli.stop", "End a server gracefully."),
    "doctor": ("nomoat.cli.doctor", "Check this machine and installation."),
    "completions": ("nomoat.cli.completions", "Tab completion for bash, zsh or fish."),
}


class _VerbGroup(click.Group):
    """A group that imports a verb's module only when that verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order of the table, which is the order of a first visit."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its command."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(VERBS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb of `args`; for an unknown one, name the nearest."""
        verb = args[0]
        if verb in VERBS or verb.startswith("-"):
            return super().resolve_command(ctx, args)
        near = difflib.get_close_matches(verb, VERBS, n=1)
        question = f" Did you mean '{near[0]}'?" if near else ""
        raise click.UsageError(f"No such command '{verb}'.{question}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from the table, so that `--help` imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])


@click.group(cls=_VerbGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nomoat")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (works after the verb, too).")
def cli(debug: bool) -> None:
    """A capable AI of your own: run, tune and prove open models on this machine, offline."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    calm_openmp()  # first of all: whichever library brings OpenMP reads it once
    arguments = sys.argv[1:] if arguments is None else arguments
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    rest = arguments[len(options) :]
    debug, as_json = "--debug" in options, "--json" in options
    arguments = [argument for argument in options if argument != "--debug"] + rest
    try:
        status = _run(arguments)
    except BrokenPipeError:
        # The reader has gone (`nomoat list | head -1`). Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    except (Exception, KeyboardInterrupt) as error:
        status = _report(error, as_json, debug)
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    """Run one verb; an int that it returns is the exit status."""
    result = cli.main(arguments, prog_name="nomoat", standalone_mode=False)
    sys.stdout.flush()
    return result if isinstance(result, int) else DONE


def _report(error: BaseException, as_json: bool, debug: bool) -> int:
    """Print `error` for a person or a script and return the exit status."""
    if isinstance(error, click.ClickException):
        return _report_usage(error, as_json)
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        if as_json:
            print_error_fields("interrupted", "interrupted", "")
        else:
            sys.stderr.write("\ninterrupted\n")
        return INTERRUPTED
    known = _as_nomoat_error(error)
    if known is None or debug:
        traceback.print_exception(error)
    if known is not None:
        print_error(known, as_json)
    elif as_json:
        print_error_fields(
            "internal", f"{type(error).__name__}: {error}", "a fault in nomoat: please report it"
        )
    return FAILED


def _report_usage(error: click.ClickException, as_json: bool) -> int:
    error.show()
    if as_json:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "nomoat"
        print_error_fields("usage", error.format_message(), f"{command} --help shows what it takes")
    return error.exit_code


def _as_nomoat_error(error: BaseException) -> NomoatError | None:
    """What the machine ran out of is no fault of the program, wherever it was noticed."""
    if isinstance(error, NomoatError):
        return error
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        place = f"{error.filename}: " if error.filename else ""
        return DiskFullError(f"{place}no room left on the disk", "free some space and run it again")
    if isinstance(error, MemoryError):
        return NotEnoughMemoryError("memory ran out", "close other programs or use a smaller model")
    return None


if __name__ == "__main__":
    main()
