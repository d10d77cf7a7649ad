"""Completions in llama-server's form: objects with the text, what ended it, the settings and the times."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nomoat.run.protocol import PromptProgress, TokenLogprob
from nomoat.server.answer_events import Event, Finished, TextDelta
from nomoat.server.answers import Answer
from nomoat.server.timings import StreamFigures, timings

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
    timings: bool = False
    """Whether each event of a stream has the timings up to then."""
    progress: bool = False
    """Whether a stream tells how much of the prompt was read."""


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

    def __post_init__(self) -> None:
        self._figures = StreamFigures(with_timings=self.wanted.timings, with_progress=self.wanted.progress)

    def parts(self, event: Event) -> list[dict[str, Any]]:
        """The events of a stream that follow from `event`. Without a stream the last one is the whole answer."""
        if isinstance(event, PromptProgress):
            told = self._figures.add(event)
            return [self._event(TextDelta(""), told)] if self.wanted.progress else []
        if isinstance(event, TextDelta):
            return [self._part(event)] if self.wanted.text else []
        assert isinstance(event, Finished)
        ending = (
            [self._part(_end_token(event))] if event.end_token_id is not None and self.wanted.text else []
        )
        return [*ending, self._end(event)]

    def _part(self, delta: TextDelta) -> dict[str, Any]:
        """Keep a piece of the answer, and return it as an event of a stream."""
        self.text.append(delta.text)
        self.tokens += delta.token_ids
        self.logprobs += delta.logprobs
        told = self._figures.add(delta)
        if delta.logprobs:
            told["completion_probabilities"] = probabilities(delta.logprobs)
        return self._event(delta, told)

    def _event(self, delta: TextDelta, told: dict[str, Any]) -> dict[str, Any]:
        return {
            "index": self.index, "content": delta.text, "tokens": list(delta.token_ids), "stop": False,
            "id_slot": self.answer.running.number, "tokens_predicted": len(self.tokens),
            "tokens_evaluated": len(self.answer.prompt_tokens), **told,
        }  # fmt: skip

    def _end(self, end: Finished) -> dict[str, Any]:
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
        stop_type = "limit" if end.reason == "length" else "word" if end.stop else "eos"
        # As there, the token by which the model ends counts, too.
        usage = replace(end.usage, completion=end.usage.completion + (stop_type == "eos"))
        prompt, made = usage.prompt, usage.completion
        return {
            "index": self.index, "id_slot": self.answer.running.number, "stop": True, "model": self.answer.model,
            "tokens_predicted": made, "tokens_evaluated": prompt,
            "generation_settings": {**self.wanted.settings, "seed": end.seed}, "prompt": self.prompt,
            "has_new_line": "\n" in "".join(self.text),
            "truncated": end.reason == "length" and prompt + made >= self.wanted.context_length,
            "stop_type": stop_type, "stopping_word": end.stop,
            "tokens_cached": prompt + max(0, made - 1),  # the last token is not evaluated any more
            "timings": timings(usage, end.prompt_seconds, end.decode_seconds),
        }  # fmt: skip


def _end_token(end: Finished) -> TextDelta:
    """The token by which the model ended, which stands for no text."""
    assert end.end_token_id is not None
    logprobs = () if end.end_logprob is None else (replace(end.end_logprob, token_bytes=b""),)
    return TextDelta("", (end.end_token_id,), logprobs)


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
