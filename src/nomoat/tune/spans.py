"""Where a chat's replies stand: in the rendered text, and then in its tokens.

Templates add system prompts, strip white space and rewrite turns. Rather than trust them, the chat is
rendered a second time with a marker in the place of each reply; the text around the markers must reappear.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from nomoat.base.errors import InputError
from nomoat.tune.rows import Message

__all__ = ["Template", "answer_opening", "reply_spans", "token_spans"]

_SPACE = re.compile(rb"\s+")
_MOST_BYTES_LEFT_OUT = 16  # llama.cpp passes over single bytes of rare characters that a vocabulary lacks
_MARKER = "\u2063reply{}\u2063"  # invisible separators: no template strips or escapes them, no text has them


class Template(Protocol):
    """What of a `nomoat.formats.chat_template.ChatTemplate` this part of training needs."""

    def render(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool = False) -> str:
        """The conversation as the model reads it."""


def reply_spans(
    template: Template, messages: Sequence[Message], place: str
) -> tuple[str, list[tuple[int, int]]]:
    """The rendered chat and the (start, end) of each reply in it, in UTF-8 bytes.

    Raises InputError, naming `place`, where the template drops or rewrites a reply: training on it would
    teach something else than what the owner wrote.
    """
    text = template.render([{"role": m.role, "content": m.content} for m in messages])
    frames = _frames(template, messages, place)
    replies = [message.content for message in messages if message.role == "assistant"]
    spans, at = [], len(frames[0])
    if not text.startswith(frames[0]):
        raise _rewritten(place, 1)
    for number, (reply, frame) in enumerate(zip(replies, frames[1:], strict=True), 1):
        for shown in (reply, reply.strip(), reply.rstrip(), reply.lstrip()):
            if text.startswith(shown, at) and text.startswith(frame, at + len(shown)):
                break
        else:
            raise _rewritten(place, number)
        spans.append((at, at + len(shown)))
        at += len(shown) + len(frame)
    if at != len(text):
        raise _rewritten(place, len(replies))
    return text, _in_bytes(text, spans)


def answer_opening(template: Template, messages: Sequence[Message]) -> str:
    """What the template adds to a prompt for an answer beyond what stands before the first reply; often empty.

    Reasoning models open with `<think>`, say: what is learned without it is asked for with it.
    """
    first = next(index for index, message in enumerate(messages) if message.role == "assistant")
    asked = [{"role": m.role, "content": m.content} for m in messages[:first]]
    learned = template.render([*asked, {"role": "assistant", "content": _MARKER}]).partition(_MARKER)[0]
    return template.render(asked, add_generation_prompt=True).removeprefix(learned)


def _frames(template: Template, messages: Sequence[Message], place: str) -> list[str]:
    """The rendered text before, between and after the replies."""
    marked, n_replies = [], 0
    for message in messages:
        is_reply = message.role == "assistant"
        content = _MARKER.format(n_replies) if is_reply else message.content
        marked.append({"role": message.role, "content": content})
        n_replies += is_reply
    rest, frames = template.render(marked), []
    for number in range(n_replies):
        frame, marker, rest = rest.partition(_MARKER.format(number))
        if not marker:
            raise _rewritten(place, number + 1)
        frames.append(frame)
    return [*frames, rest]


def _rewritten(place: str, number: int) -> InputError:
    problem = f"{place}: the model's chat template drops or rewrites reply {number}"
    return InputError(problem, "take markup such as <think> out of the reply, or choose another base model")


def _in_bytes(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    places, at, done = [], 0, 0
    for span in spans:
        for edge in span:
            at, done = at + len(text[done:edge].encode()), edge
            places.append(at)
    return list(zip(places[0::2], places[1::2], strict=True))


def token_spans(content: bytes, pieces: Sequence[bytes], place: str) -> np.ndarray:
    """Where each token stands in `content`: (start, end) in bytes, int64 (T, 2).

    Tokens of the tokenizer's own making (BOS, a leading space) take no room; bytes that it has no token for
    belong to none. Raises InputError where the pieces are not the text, so that a mask would fall on the wrong
    tokens.
    """
    if b"".join(pieces) == content:
        ends = np.cumsum(np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces)))
        return np.stack([np.concatenate([np.zeros(1, np.int64), ends[:-1]]), ends], axis=1)
    spans, at = [], 0
    for index, piece in enumerate(pieces):
        start, at = _placed(content, piece, at, is_first=index == 0, place=place)
        spans.append((start, at))
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _placed(content: bytes, piece: bytes, at: int, is_first: bool, place: str) -> tuple[int, int]:
    """Start and end of `piece`: here, without the space before a word, behind what was left out, or nowhere."""
    space = _SPACE.match(content, at)
    for start in (at, space.end() if space else at):
        for shown in (piece, piece.removeprefix(b" ")):
            if content.startswith(shown, start):
                return start, start + len(shown)
    near = content.find(piece, at, at + len(piece) + _MOST_BYTES_LEFT_OUT)
    if near >= 0:
        return near, near + len(piece)
    if is_first:  # BOS, which the template need not write
        return at, at
    problem = f"{place}: the model's tokenizer changes the text at byte {at}"
    raise InputError(problem, "choose another base model for this data")
