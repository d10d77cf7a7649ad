"""`nomoat serve`: answer requests over HTTP, on this machine unless told otherwise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nomoat.cli.complete import complete_models
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.base.server_records import ServerRecord

__all__ = ["command"]

_DEFAULT_PORT = 11435


@click.command("serve", short_help="Answer requests over HTTP: OpenAI's API and others.")
@click.argument("names", nargs=-1, metavar="[MODEL]...", shell_complete=complete_models)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=_DEFAULT_PORT, show_default=True,
              help="0 takes a free one.")  # fmt: skip
@click.option("--adapter", "adapters", multiple=True, metavar="NAME=PATH",
              help="A LoRA adapter that requests can name; several may be given.")  # fmt: skip
@click.option(
    "--any-model",
    is_flag=True,
    help="Answer requests for models that are not here by the first one, as llama-server does.",
)
@click.option("--api-key-file", type=click.Path(path_type=Path), metavar="FILE",
              help="Accept only requests with a key of this file, one a line.")  # fmt: skip
@click.option("--allow-origin", "origins", multiple=True, metavar="ORIGIN",
              help="A web page's origin that may use the server, such as http://localhost:3000.")  # fmt: skip
@click.option("--parallel", type=click.IntRange(1, 48), default=16, show_default=True,
              help="Answers at once; more requests wait.")  # fmt: skip
@click.option("--queue", type=click.IntRange(1, 100_000), default=256, show_default=True,
              help="Requests that may wait; more are told to come again.")  # fmt: skip
@click.option("--context-length", type=int,
              help="Tokens of prompt and answer together.  [default: the model's own, at most 8192]")  # fmt: skip
@click.option("--threads", type=int, help="Fixed number of threads.  [default: measured, adapted to load]")
@click.option("--grace", type=click.FloatRange(0, 3600), default=20.0, show_default=True, metavar="SECONDS",
              help="How long running answers may go on when the server is stopped.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output when ready.")
def command(names: tuple[str, ...], host: str, port: int, adapters: tuple[str, ...], any_model: bool,
            api_key_file: Path | None, origins: tuple[str, ...], parallel: int, queue: int,
            context_length: int | None, threads: int | None, grace: float, as_json: bool) -> None:  # fmt: skip
    """Serve each MODEL: a name of `nomoat list` or a .gguf file. Without any, all models of the store.

    Models that are named are loaded at once, others when they are first asked for. The first one is the default.
    Stop the server with Ctrl-C or `kill`: running answers are finished.
    """
    _require_server()
    from nomoat.base.settings import Settings
    from nomoat.cli.progress import TerminalProgress
    from nomoat.server.guard import Policy, read_api_keys
    from nomoat.server.models import ModelOptions, Models
    from nomoat.server.service import Service
    from nomoat.server.serving import ServeOptions, serve

    pairs = [_named_adapter(text) for text in adapters]
    policy = Policy(host, read_api_keys(api_key_file) if api_key_file else (), origins)
    options = ModelOptions(parallel, queue, context_length, threads, any_model)
    models = Models(Settings.from_environment(), names, options, TerminalProgress())
    try:
        models.load_all()
        for name, path in pairs:
            models.add_adapter(name, path)
        serve(Service(models, policy), ServeOptions(host, port, grace), lambda ready: _ready(ready, as_json))
    finally:
        models.close()


def _require_server() -> None:
    from importlib.util import find_spec

    from nomoat.base.errors import MissingExtraError

    for package in ("starlette", "uvicorn", "msgspec", "prometheus_client"):
        if find_spec(package) is None:
            raise MissingExtraError("serve", package)


def _named_adapter(text: str) -> tuple[str, Path]:
    name, sign, path = text.partition("=")
    if not (name and sign and path):
        raise click.BadParameter(f"{text!r} is not NAME=PATH", param_hint="--adapter")
    return name, Path(path).expanduser()


def _ready(record: ServerRecord, as_json: bool) -> None:
    if as_json:
        print_json({"url": record.url, "pid": record.pid, "models": list(record.models)})
        return
    click.echo(f"nomoat answers at {record.url} ({', '.join(record.models)})")
    click.echo(f"OpenAI clients: base_url={record.url}/v1   Ctrl-C stops it.", err=True)
    sys.stdout.flush()
