"""How the next token is chosen: the options of one request, checked before they reach the engine."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace

from nomoat.base.errors import InputError

__all__ = ["ALL_TOKENS", "SamplingParams"]

ALL_TOKENS = 2**20
"""A `repeat_last_n` that looks at everything, where others write -1."""

# llama.cpp reads this one value as "choose a seed for me", so it is no seed.
_MOST_SEED = 2**32 - 2
_MOST_LOGPROBS = 1000


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Options of one generation; the defaults are llama.cpp's own.

    `temperature` 0 is greedy and leaves `top_k`, `top_p`, `min_p` and `seed` without effect. `max_tokens`
    None means up to the end of the context. `seed` None draws one, which the result reports. `logprobs` n
    asks for the log-probability of each token and of the n likeliest ones, taken from the model's unmodified
    softmax. `repeat_penalty` 1 is off and looks at `repeat_last_n` tokens, the prompt's included.
    `ignore_end` goes on where the model has finished (for measurements); `avoid_end` never chooses a token by which
    it finishes. `grammar` is GBNF text with the start rule `root`, which the answer then follows.
    """

    max_tokens: int | None = None
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repeat_last_n: int = 64
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    ignore_end: bool = False
    avoid_end: bool = False
    grammar: str | None = None

    def __post_init__(self) -> None:
        _number("temperature", self.temperature, 0.0, 100.0)
        _number("top_p", self.top_p, 0.0, 1.0)
        _number("min_p", self.min_p, 0.0, 1.0)
        _number("repeat_penalty", self.repeat_penalty, 0.01, 100.0)
        _number("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        _number("presence_penalty", self.presence_penalty, -100.0, 100.0)
        _number("top_k", self.top_k, 0, 2**31 - 1)
        _number("repeat_last_n", self.repeat_last_n, 0, ALL_TOKENS)
        for name, value, least, most in (
            ("max_tokens", self.max_tokens, 1, 2**31 - 1),
            ("seed", self.seed, 0, _MOST_SEED),
            ("logprobs", self.logprobs, 0, _MOST_LOGPROBS),
        ):
            if value is not None:
                _number(name, value, least, most)

    @property
    def penalises(self) -> bool:
        """Whether earlier tokens change the chances of later ones."""
        changed = self.repeat_penalty != 1.0 or self.frequency_penalty != 0.0 or self.presence_penalty != 0.0
        return changed and self.repeat_last_n > 0

    def with_seed(self) -> SamplingParams:
        """The same options with a seed drawn where none was given."""
        return self if self.seed is not None else replace(self, seed=secrets.randbelow(_MOST_SEED + 1))


def _number(name: str, value: float, least: float, most: float) -> None:
    if not math.isfinite(value) or not least <= value <= most:
        raise InputError(f"{name} is {value}", f"use a value from {least:g} to {most:g}")
