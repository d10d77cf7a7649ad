"""What OpenAI's endpoints share: sampling fields, usage, the form of streams."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nomoat import __version__
from nomoat.base.errors import NomoatError
from nomoat.run.adapters import AdapterRef
from nomoat.run.sampling import ALL_TOKENS, SamplingParams
from nomoat.server.answer_events import Finished
from nomoat.server.errors import BadRequest, openai_error, problem_of
from nomoat.server.samplers import SharedOptions, check_absent, left_out

__all__ = [
    "FINGERPRINT",
    "AdapterBody",
    "SamplingBody",
    "StreamOptions",
    "new_id",
    "openai_stream",
    "sampling_of",
    "seed_of_choice",
    "usage_of",
]

FINGERPRINT = f"nomoat-{__version__}"
_SEEDS = 2**32 - 1
_encode = msgspec.json.Encoder().encode
_SAMPLING_NAMES = (
    "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "repeat_last_n", "frequency_penalty",
    "presence_penalty", "grammar",
)  # fmt: skip
Bias = Annotated[float, Meta(ge=-100, le=100)]


class AdapterBody(msgspec.Struct):
    """An adapter by name, with its strength."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    scale: Annotated[float, Meta(ge=-100, le=100)] = 1.0


class StreamOptions(msgspec.Struct):
    """What a stream contains beside the answer."""

    include_usage: bool = False


class SamplingBody(SharedOptions, kw_only=True):
    """Fields of every request that generates text. What is not given has llama.cpp's own default.

    OpenAI's come first; those from `top_k` on are llama-server's.
    """

    model: str | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Bias] | list[tuple[int, Bias | bool]] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Meta(max_length=64)] | None = None
    n: Annotated[int, Meta(ge=1, le=64)] | None = None
    max_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    adapters: Annotated[list[AdapterBody], Meta(max_length=64)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1, le=ALL_TOKENS)] | None = None
    n_predict: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Fields of llama-server that would change the answer and have another name here."""
        return super().refused() | {
            "lora": "name adapters in 'model' or in 'adapters'", "n_probs": "use 'logprobs'",
        }  # fmt: skip

    @property
    def limit(self) -> int | None:
        """The most tokens, by OpenAI's older name or by llama-server's."""
        return self.n_predict if self.max_tokens is None else self.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def adapter_refs(self) -> tuple[AdapterRef, ...]:
        """The adapters as the engine takes them."""
        return tuple(AdapterRef(adapter.name, adapter.scale) for adapter in self.adapters or ())


def sampling_of(body: SamplingBody, choice: int, *, max_tokens: int | None, **more: Any) -> SamplingParams:
    """The engine's options for one choice."""
    check_absent(body)
    fields = {name: value for name in _SAMPLING_NAMES if (value := getattr(body, name)) is not None}
    if body.top_k == -1:  # vLLM's word for all of them
        fields["top_k"] = 0
    if body.repeat_last_n == -1:
        fields["repeat_last_n"] = ALL_TOKENS
    fields |= left_out(body.samplers)
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    more["max_tokens"] = None if max_tokens == -1 else max_tokens  # -1: llama-server's word for no limit
    seed = None if body.seed == -1 else seed_of_choice(body.seed, choice)  # -1: llama-server's word for any
    options = {**fields, "stop": tuple(text for text in stop if text), "seed": seed, **more}
    return SamplingParams(
        **options, avoid_end=bool(body.ignore_eos), logit_bias=_biases(body.logit_bias or {})
    )


def seed_of_choice(seed: int | None, choice: int) -> int | None:
    """A seed of the request gives each choice its own."""
    return None if seed is None else (seed + choice) % _SEEDS


def _biases(given: dict[str, float] | list[tuple[int, float | bool]]) -> tuple[tuple[int, float], ...]:
    """OpenAI's biases, or llama-server's list of pairs, in which false stands for "never"."""
    if isinstance(given, list):
        return tuple(_pair(token, bias) for token, bias in given)
    biases = []
    for token, bias in given.items():
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise BadRequest(f"{token[:40]!r} is no token id", "logit_bias")
        biases.append((int(token), bias))
    return tuple(biases)


def _pair(token: int, bias: float | bool) -> tuple[int, float]:
    if token < 0 or bias is True:
        raise BadRequest(f"{[token, bias]} is no bias", "logit_bias", "send [token id, number or false]")
    return token, -math.inf if bias is False else bias


def usage_of(ends: list[Finished], prompts: int = 1) -> dict[str, Any]:
    """OpenAI's usage object. The choices of one prompt count its tokens once."""
    each = max(1, len(ends) // max(prompts, 1))
    prompt = sum(end.usage.prompt for end in ends[::each])
    completion = sum(end.usage.completion for end in ends)
    accepted = sum(end.usage.accepted for end in ends)
    drafted = sum(end.usage.drafted for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(end.usage.cached for end in ends[::each])},
        "completion_tokens_details": {
            "reasoning_tokens": sum(end.usage.reasoning for end in ends),
            "accepted_prediction_tokens": accepted, "rejected_prediction_tokens": drafted - accepted,
        },
    }  # fmt: skip


def new_id(prefix: str) -> str:
    """A name for an answer."""
    return prefix + secrets.token_hex(12)


async def openai_stream(parts: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[bytes]:
    """Server-sent events; an error in the middle becomes a last event of its own."""
    async with aclosing(parts):
        try:
            async for part in parts:
                yield b"data: " + _encode(part) + b"\n\n"
        except Exception as error:
            if not isinstance(error, NomoatError):
                logging.getLogger("nomoat.server").exception("a stream failed")
            yield b"data: " + _encode(openai_error(problem_of(error))) + b"\n\n"
            return
        yield b"data: [DONE]\n\n"
