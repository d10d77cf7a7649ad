"""`nomoat run`: one answer for a prompt or a pipe, or a conversation at a terminal."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from nomoat.cli.complete import complete_adapters, complete_models
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.run.adapters import AdapterRef
    from nomoat.run.engine import Engine
    from nomoat.run.generation import Generation
    from nomoat.run.sampling import SamplingParams

__all__ = ["command"]

_DEFAULT_MODEL = "smollm2"
_DEFAULT_MAX_TOKENS = 1024


@click.command("run", short_help="Chat with a model, or answer one prompt.")
@click.argument("name", default=_DEFAULT_MODEL, shell_complete=complete_models)
@click.argument("prompt", required=False)
@click.option("--adapter", "adapters", multiple=True, metavar="PATH_OR_NAME[:SCALE]",
              shell_complete=complete_adapters, help="LoRA adapter to apply; several are added.")  # fmt: skip
@click.option("--force-adapter", is_flag=True,
              help="Load adapters that were trained on another model, too, if their shapes fit.")  # fmt: skip
@click.option("--system", metavar="TEXT", help="System prompt.  [default: the model's own]")
@click.option("--max-tokens", type=int, default=_DEFAULT_MAX_TOKENS, show_default=True,
              help="Longest answer.")  # fmt: skip
@click.option("--temperature", type=float, default=0.8, show_default=True, help="0 takes the likeliest.")
@click.option("--top-k", type=int, default=40, show_default=True, help="Choose among this many; 0: all.")
@click.option("--top-p", type=float, default=0.95, show_default=True,
              help="Choose among the likeliest with this share; 1: all.")  # fmt: skip
@click.option("--min-p", type=float, default=0.05, show_default=True,
              help="Least probability, as a share of the likeliest's; 0: any.")  # fmt: skip
@click.option("--repeat-penalty", type=float, default=1.0, show_default=True, help="1: none.")
@click.option("--seed", type=int, help="Same seed, same answer.  [default: drawn, shown with --json]")
@click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before this text.")
@click.option("--context-length", type=int,
              help="Tokens of prompt and answer together.  [default: the model's own, at most 8192]")  # fmt: skip
@click.option("--threads", type=int, help="Fixed number of threads.  [default: measured, adapted to load]")
@click.option("--yes", is_flag=True, help="Pull what a hub's name stands for without asking.")
@click.option("--verbose", is_flag=True, help="Print speed and counts to standard error.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(name: str, prompt: str | None, adapters: tuple[str, ...], force_adapter: bool, system: str | None,
            context_length: int | None, threads: int | None, yes: bool, verbose: bool, as_json: bool,
            **options: Any) -> None:  # fmt: skip
    """Answer PROMPT with the model NAME, or chat at a terminal when there is no PROMPT.

    NAME is a name of `nomoat list`, a .gguf file, or a name on a hub (`hf.co/owner/name:Q4_K_M`), which is offered
    to be pulled where the store does not have it. Piped text is the prompt, or follows PROMPT when it begins
    within five seconds; with `-` as PROMPT it is awaited for as long as it takes. Sampling starts with
    llama.cpp's own defaults.
    """
    from nomoat.cli.chat_input import read_prompt
    from nomoat.cli.hub_names import local_adapter, local_model
    from nomoat.run.adapters import parse_adapter
    from nomoat.run.sampling import SamplingParams

    if name == "-" and prompt is None:  # cat letter.txt | nomoat run -
        name, prompt = _DEFAULT_MODEL, "-"
    interactive = prompt is None and sys.stdin.isatty() and sys.stdout.isatty()
    if interactive and as_json:
        raise click.UsageError("--json needs a prompt")
    sampling = SamplingParams(**options)
    name, own_adapters = local_model(name, yes=yes)
    refs = [parse_adapter(text) for text in adapters]
    refs = [replace(ref, path=local_adapter(str(ref.path), yes=yes)) for ref in refs]
    refs = [replace(ref, force=force_adapter) for ref in (*map(parse_adapter, own_adapters), *refs)]
    text = "" if interactive else read_prompt(prompt)
    if not interactive and not text.strip():
        raise click.UsageError("no prompt: give one, pipe text in, or start it at a terminal to chat")
    with _engine(name, context_length, threads) as engine:
        for ref in refs:
            engine.check_adapter(ref)
        _print_notices(engine)
        if interactive:
            from nomoat.cli.chat_loop import chat

            chat(engine, refs, sampling, system)
        else:
            _answer_once(engine, text, refs, sampling, system, as_json, verbose)


def _engine(name: str, context_length: int | None, threads: int | None) -> Engine:
    """The engine for a model's name; the embedded one in the form that is faster here."""
    from nomoat.base.settings import Settings
    from nomoat.cli.progress import TerminalProgress
    from nomoat.run.embedded_choice import choose_embedded
    from nomoat.run.engine import Engine
    from nomoat.store.store import Store

    settings, progress = Settings.from_environment(), TerminalProgress()
    store = Store(settings.home, settings)
    model = choose_embedded(store, store.resolve(name, progress), settings, progress)
    return Engine(model, context_length=context_length, threads=threads, settings=settings, progress=progress)


def _print_notices(engine: Engine) -> None:
    for line in [engine.template.notice, *engine.notices]:
        if line:
            click.echo(line, err=True)


def _answer_once(engine: Engine, text: str, adapters: list[AdapterRef], sampling: SamplingParams,
                 system: str | None, as_json: bool, verbose: bool) -> None:  # fmt: skip
    messages = [{"role": "user", "content": text}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    with engine.chat(messages, sampling, adapters) as answer:
        if as_json:
            print_json(_as_json(engine, answer.text(), answer, adapters))
        else:
            _stream(answer)
    if verbose and answer.result is not None:
        from nomoat.cli.chat_output import figures

        click.echo(figures(answer.result), err=True)


def _stream(answer: Generation) -> None:
    from nomoat.cli.chat_output import Writer

    writer = Writer(sys.stdout)
    for chunk in answer:
        writer.write(chunk.text)
    writer.end_line()


def _as_json(engine: Engine, text: str, answer: Generation, adapters: list[AdapterRef]) -> dict[str, Any]:
    result = answer.result
    assert result is not None
    model = engine.stored()
    return {
        "text": text,
        "finish_reason": result.finish_reason,
        "prompt_tokens": result.prompt_tokens,
        "cached_tokens": result.cached_tokens,
        "completion_tokens": result.completion_tokens,
        "prompt_tokens_per_second": result.prompt_tokens_per_second,
        "tokens_per_second": result.tokens_per_second,
        "model": model.name,
        "digest": model.digest,
        "adapters": [{"path": str(ref.path), "scale": ref.scale} for ref in adapters],
        "seed": result.seed,
        "threads": result.threads,
    }
