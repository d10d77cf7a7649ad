"""`nomoat hub samples`: sample chats of a model or an adapter, made on this hub's own machine."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nomoat.base.errors import InputError, NotFoundError
from nomoat.cli.hub_root import opened_registry, root_option
from nomoat.cli.output import print_json

if TYPE_CHECKING:
    from nomoat.server.hub.samples import Unanswered
    from nomoat.share.registry.history import Commit
    from nomoat.share.registry.registry import Registry
    from nomoat.share.registry.repos import Repo
    from nomoat.share.registry.samples import Sample

__all__ = ["command"]

_MOST_BYTES = 1 << 20


@click.command("samples")
@click.argument("name", metavar="REPO")
@root_option
@click.option("--revision", default="main", show_default=True, help="A branch, tag or commit.")
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="What is asked; may be repeated.")
@click.option("--prompts", "prompts_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              metavar="FILE", help="A file with one prompt per line.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same answer.")
@click.option("--temperature", type=float, default=0.8, show_default=True, help="0 takes the likeliest.")
@click.option("--max-tokens", type=int, default=160, show_default=True, help="Longest answer.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=600.0, show_default=True,
              metavar="SECONDS", help="Longest time for loading the model, and for each answer.")  # fmt: skip
@click.option("--replace", "replace_earlier", is_flag=True,
              help="Remove earlier sample chats of this version once the new ones are made.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    name: str, root: Path | None, revision: str, prompts: tuple[str, ...], prompts_file: Path | None, timeout: float,
    replace_earlier: bool, as_json: bool, **sampling: Any,
) -> int:  # fmt: skip
    """Let the model REPO (OWNER/NAME, or OWNER/NAME:Q4_K_M of several) answer, and show that on its page.

    An adapter answers beside its base, which this hub must have. Without prompts the card's examples are asked, or a
    few questions in its language. The hub may run meanwhile. Ctrl-C leaves the chats that are done. A prompt whose
    answer takes too long is skipped, and the exit status is 1 then.
    """
    with opened_registry(root) as registry:
        from nomoat.cli.progress import TerminalProgress
        from nomoat.run.sampling import SamplingParams
        from nomoat.server.hub.sample_prompts import default_prompts
        from nomoat.server.hub.samples import SampleOrder, Unanswered, make_samples

        full_name, _, selector = name.partition(":")
        repo, commit = _version(registry, full_name, revision)
        asked = (*prompts, *_lines(prompts_file)) or default_prompts(repo.card)
        order = SampleOrder(asked, SamplingParams(**sampling), selector, timeout, timeout, replace_earlier)
        progress, made, skipped = TerminalProgress(), list[Any](), list[Any]()
        with contextlib.closing(make_samples(registry, repo, commit, order, progress)) as chats:
            for chat in chats:
                (skipped if isinstance(chat, Unanswered) else made).append(chat)
                progress.say(_line(chat, len(made), len(asked)))
        progress.finish()
    if as_json:
        print_json({"repo": str(repo.name), "commit": commit.oid,
                    "samples": [{"id": each.id, **each.content} for each in made],
                    "skipped": [vars(each) for each in skipped]})  # fmt: skip
    else:
        for each in made:
            _show(each)
    return int(bool(skipped))


def _version(registry: Registry, name: str, revision: str) -> tuple[Repo, Commit]:
    from nomoat.share.errors import TakenDownError
    from nomoat.share.names import RepoName
    from nomoat.share.registry.accounts import Identity

    operator = Identity(
        name="operator", scope="admin", is_admin=True
    )  # who may read its folder may see all of it
    repo = registry.repos.get(operator, RepoName.parse("model", name))
    if repo.taken_down:
        raise TakenDownError(f"{repo.name} was taken down", "restore it first, on the page Moderation")
    if repo.head is None and revision == "main":
        raise NotFoundError(f"{repo.name}: nothing was sent there yet", "push something to it")
    return repo, registry.history.resolve(repo, revision)


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path}: more than {_MOST_BYTES:,} bytes", "give one prompt per line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError(f"{path}: holds no prompt", "give one prompt per line")
    return found


def _line(chat: Sample | Unanswered, number: int, count: int) -> str:
    """What came of one prompt, while others are asked."""
    from nomoat.share.registry.samples import Sample

    if isinstance(chat, Sample):
        return f"{number} of {count} kept: {chat.content['prompt'][:60]!r}"
    return f"skipped: {chat.why}"


def _show(chat: Sample) -> None:
    """As a person reads it. Answers pass the writer that keeps control characters from a terminal."""
    from nomoat.cli.chat_output import Writer

    content, writer = chat.content, Writer(sys.stdout)
    cut = " (cut: --max-tokens)" if content["finish_reason"] == "length" else ""
    parts = [
        ("asked", content["prompt"]),
        ("base", content.get("base_answer")),
        (f"answer{cut}", content["answer"]),
    ]
    for title, text in parts:
        if text is not None:
            writer.write(f"{title}: {text.strip()}")
            writer.end_line()
    writer.write("\n")
