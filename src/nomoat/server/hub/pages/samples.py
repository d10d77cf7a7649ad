"""Sample chats as a model's page shows them: prompt, answers, what they were made of, and how to have them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from nomoat.run.sampling import SamplingParams
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.pages.opened import Opened
from nomoat.share.registry.samples import Sample
from nomoat.store.embedded import EMBEDDED_DIGEST

__all__ = ["ShownAnswer", "ShownSample", "shown_samples"]

_MOST = 12
_LONGEST = 20_000
_LONGEST_FACT = 600
_OPTIONS = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty")
_SHOWN_ELSEWHERE = {"prompt", "answer", "base_answer", "finish_reason", "base_finish_reason"}


@dataclass(frozen=True)
class ShownAnswer:
    """What one side said. `title` is empty where there is only one; `command` asks for the same again."""

    title: str
    text: str
    cut: bool
    file: str
    digest: str
    command: str


@dataclass(frozen=True)
class ShownSample:
    """A chat. `version` says how its files compare with those of the commit that the page shows."""

    prompt: str
    answers: tuple[ShownAnswer, ...]
    same: bool
    seed: str
    temperature: str
    commit: str
    created_ms: int
    version: Literal["this", "same files", "other"]
    recorded: bool
    facts: tuple[tuple[str, str], ...]


def shown_samples(hub: Hub, opened: Opened, base: str) -> list[ShownSample]:
    """The newest chats, those of this version first. `base` is the hub's own address."""
    commit = opened.commit.oid if opened.commit else ""
    host = base.partition("://")[2]
    found = hub.registry.samples.of(opened.repo, commit, _MOST)
    return [_shown(sample, opened, host) for sample in found]


def _shown(sample: Sample, opened: Opened, host: str) -> ShownSample:
    content = sample.content
    answers = tuple(_answers(content, sample.commit, opened, host))
    facts = tuple((str(name)[:80].replace("_", " "), _text(value)[:_LONGEST_FACT])
                  for name, value in content.items() if name not in _SHOWN_ELSEWHERE)  # fmt: skip
    return ShownSample(
        _text(content.get("prompt"))[:_LONGEST], answers, len({answer.text for answer in answers}) < len(answers),
        _text(content.get("seed"))[:40], _text(content.get("temperature"))[:40], sample.commit, sample.created_ms,
        _version(sample, opened), sample.recorded, facts,
    )  # fmt: skip


def _answers(content: Mapping[str, Any], commit: str, opened: Opened, host: str) -> list[ShownAnswer]:
    repo, file, oid = (_text(content.get(f"model{part}"))[:300] for part in ("", "_file", "_commit"))
    model, own = f"{host}/{repo}:{file}@{oid}", f"{host}/{opened.repo.name}@{commit}"
    model_file = (file, _text(content.get("model_digest")))
    if "base_answer" not in content:
        return [_answer(content, "", "", model_file, _command(content, model))]
    adapter_file = (_text(content.get("adapter_file"))[:300], _text(content.get("adapter_digest")))
    return [
        _answer(content, "base_", "The base alone", model_file, _command(content, model)),
        _answer(content, "", "With the adapter", adapter_file, _command(content, own)),
    ]


def _answer(
    content: Mapping[str, Any], prefix: str, title: str, file: tuple[str, str], command: str
) -> ShownAnswer:
    text = _text(content.get(f"{prefix}answer")).strip()[:_LONGEST]
    return ShownAnswer(title, text, content.get(f"{prefix}finish_reason") == "length", *file, command)


def _command(content: Mapping[str, Any], name: str) -> str:
    """The line of shell. Options that are as `nomoat run` has them anyway are left out."""
    usual = {each.name: each.default for each in fields(SamplingParams)}
    options = ["--seed", _text(content.get("seed")), "--max-tokens", _text(content.get("max_tokens"))]
    for option in _OPTIONS:
        if content.get(option) not in (None, usual[option]):
            options += [f"--{option.replace('_', '-')}", _text(content[option])]
    words = ["nomoat", "run", name, *options, "--", _text(content.get("prompt"))[:_LONGEST]]
    # Whoever has the embedded model may run a faster form of it, whose answers are others.
    form = "NOMOAT_EMBEDDED=as-shipped " if content.get("model_digest") == EMBEDDED_DIGEST else ""
    return form + shlex.join(words)


def _version(sample: Sample, opened: Opened) -> Literal["this", "same files", "other"]:
    if opened.commit and sample.commit == opened.commit.oid:
        return "this"
    names = (
        ("adapter_digest", "adapter_config_digest")
        if "adapter_digest" in sample.content
        else ("model_digest",)
    )
    pinned = [sample.content[name] for name in names if name in sample.content]
    here = [entry.digest for entry in opened.files]
    return "same files" if pinned and all(digest in here for digest in pinned) else "other"


def _text(value: Any) -> str:
    return "" if value is None else str(value)
