"""What comes of an answer, piece by piece, whatever its client speaks."""

from __future__ import annotations

from dataclasses import dataclass

from nomoat.run.protocol import PromptProgress, TokenLogprob

__all__ = [
    "Event",
    "Finished",
    "ReasoningDelta",
    "TextDelta",
    "ToolArguments",
    "ToolCallBegun",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text. `token_ids` are the tokens made since the delta before; text can lag behind."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks before it answers. Its tokens are in a `TextDelta` without text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallBegun:
    """The model calls a tool; its arguments follow. `index` counts the calls of this answer."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolArguments:
    """More of the JSON text of call `index`'s arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. `cached` of the prompt were not computed anew, `restored` of these came from the disk.

    `decoded` tokens were evaluated one after the other: the first one comes out of the prompt's evaluation.
    `reasoning` of the completion came before the answer; the few beside its end count as answer.
    """

    prompt: int
    cached: int
    completion: int
    restored: int = 0
    drafted: int = 0
    accepted: int = 0
    decoded: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event. `reason` is "stop", "length" (also where the server had to stop early) or "tool_calls".

    `stop` is the stop string that ended the answer, empty where the model ended it itself: by the token `end_token_id`,
    which `usage` does not count, with `end_logprob` where log-probabilities were asked for.
    """

    reason: str
    usage: Usage
    prompt_seconds: float
    decode_seconds: float
    seed: int
    stop: str = ""
    end_token_id: int | None = None
    end_logprob: TokenLogprob | None = None


Event = PromptProgress | ReasoningDelta | TextDelta | ToolCallBegun | ToolArguments | Finished
"""`PromptProgress` is the engine's own word for what was read of the prompt."""
