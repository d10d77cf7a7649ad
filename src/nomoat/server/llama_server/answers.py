"""Completions in llama-server's form: objects with the text, what ended it, the settings and the times."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nomoat.run.protocol import TokenLogprob
from nomoat.server.answers import Answer, Finished, TextDelta
from nomoat.server.openai_common import timings_of

__all__ = ["Completion", "Wanted", "probabilities"]


@dataclass(frozen=True)
class Wanted:
    """What of an answer a request wants to see."""

    settings: Mapping[str, Any]
    context_length: int
    stream: bool = False
    tokens: bool = False
    text: bool = True
    """Whether a token is wanted at all: without, the prompt is only evaluated."""
    fields: Sequence[str] = ()
    stop_lengths: Mapping[str, int] = field(default_factory=dict)
    """How many tokens each stop string has, where probabilities are told."""


@dataclass
class Completion:
    """One answer on its way: number `index` of its request, to the prompt `prompt`."""

    index: int
    prompt: str
    answer: Answer
    wanted: Wanted
    text: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def part(self, delta: TextDelta) -> dict[str, Any]:
        """Keep a piece of the answer, and return it as an event of a stream."""
        self.text.append(delta.text)
        self.tokens += delta.token_ids
        self.logprobs += delta.logprobs
        event: dict[str, Any] = {
            "index": self.index, "content": delta.text, "tokens": list(delta.token_ids), "stop": False,
            "id_slot": self.answer.running.number, "tokens_predicted": len(self.tokens),
            "tokens_evaluated": len(self.answer.prompt_tokens),
        }  # fmt: skip
        return (
            {**event, "completion_probabilities": probabilities(delta.logprobs)} if delta.logprobs else event
        )

    def end(self, end: Finished) -> dict[str, Any]:
        """The whole answer, or the last event of a stream, which repeats nothing."""
        if not self.wanted.text:
            end = replace(end, reason="length", usage=replace(end.usage, completion=0), stop="")
        whole = {**self._content(end), **self._facts(end)}
        if not self.wanted.fields:
            return whole
        chosen = ((path, _at(whole, path.split("/"))) for path in self.wanted.fields)
        return {path: found[0] for path, found in chosen if found}

    def _content(self, end: Finished) -> dict[str, Any]:
        if self.wanted.stream or not self.wanted.text:
            return {"content": "", "tokens": []}
        content: dict[str, Any] = {
            "content": "".join(self.text),
            "tokens": self.tokens if self.wanted.tokens else [],
        }
        if self.logprobs:
            # As there, the stop string's own tokens are left out, as far as it is known which they are.
            kept = max(0, len(self.logprobs) - self.wanted.stop_lengths.get(end.stop, 0))
            content["completion_probabilities"] = probabilities(self.logprobs[:kept])
        return content

    def _facts(self, end: Finished) -> dict[str, Any]:
        prompt, made = end.usage.prompt, end.usage.completion
        stop_type = "limit" if end.reason == "length" else "word" if end.stop else "eos"
        unread = 0 if stop_type == "eos" or not made else 1  # what ends an answer is not evaluated any more
        return {
            "index": self.index, "id_slot": self.answer.running.number, "stop": True, "model": self.answer.model,
            "tokens_predicted": made, "tokens_evaluated": prompt,
            "generation_settings": {**self.wanted.settings, "seed": end.seed}, "prompt": self.prompt,
            "has_new_line": "\n" in "".join(self.text),
            "truncated": end.reason == "length" and prompt + made >= self.wanted.context_length,
            "stop_type": stop_type, "stopping_word": end.stop, "tokens_cached": prompt + made - unread,
            "timings": timings_of(end),
        }  # fmt: skip


def probabilities(logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """`completion_probabilities`: each token with the likeliest ones in its place."""
    return [{**_token(entry), "top_logprobs": [_token(other) for other in entry.top]} for entry in logprobs]


def _token(entry: TokenLogprob) -> dict[str, Any]:
    # The beginning of a character that a later token completes is left out of the text; `bytes` has it.
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(entry.token_bytes)
    return {"id": entry.token_id, "token": text, "bytes": list(entry.token_bytes), "logprob": entry.logprob}


def _at(value: Any, path: Sequence[str]) -> tuple[Any] | None:
    """What stands at `path`, None where there is nothing."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return (value,)
