"""llama-server's sampling options as the engine's, and back as the settings that its answers tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams
from nomoat.server.errors import BadRequest
from nomoat.server.llama_server.wire import CompletionRequest
from nomoat.server.samplers import ABSENT, SAMPLERS, check_absent, left_out

__all__ = ["sampling_of", "settings_of"]

_RANDOM_SEED = 2**32 - 1  # llama.cpp's word for "choose one for me"
_NAMES = (
    "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "presence_penalty",
    "frequency_penalty", "grammar",
)  # fmt: skip


def sampling_of(body: CompletionRequest, engine: Engine) -> SamplingParams:
    """The engine's options for a request; values out of range are moved into it, as llama-server does.

    Raises `BadRequest` for what would change the answer and is not there.
    """
    check_absent(body)
    chosen = {name: value for name in _NAMES if (value := getattr(body, name)) is not None}
    if body.repeat_last_n == -1:
        chosen["repeat_last_n"] = engine.model.context_length
    chosen |= left_out(body.samplers)
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    seed = None if body.seed is None else body.seed % 2**32
    return SamplingParams(
        **_clamped(chosen), max_tokens=body.limit or (1 if body.limit == 0 else None),
        seed=None if seed == _RANDOM_SEED else seed, stop=tuple(text for text in stop if text),
        logprobs=body.likeliest or None, avoid_end=bool(body.ignore_eos),
        logit_bias=tuple(_biases(body.logit_bias or {}, engine)),
    )  # fmt: skip


def settings_of(sampling: SamplingParams) -> dict[str, Any]:
    """What llama-server calls `params`: the samplers with their values, those that are not there as off."""
    off = {name: value for name, value in ABSENT.items() if name not in ("n_indent", "t_max_predict_ms")}
    limit = -1 if sampling.max_tokens is None else sampling.max_tokens
    return {
        "seed": _RANDOM_SEED if sampling.seed is None else sampling.seed,
        **{name: getattr(sampling, name) for name in _NAMES if name != "grammar"}, **off,
        "max_tokens": limit, "n_predict": limit, "n_keep": 0, "n_discard": 0, "ignore_eos": sampling.avoid_end,
        "n_probs": sampling.logprobs or 0, "samplers": list(SAMPLERS), "post_sampling_probs": False,
        "timings_per_token": False,
    }  # fmt: skip


def _clamped(chosen: dict[str, Any]) -> dict[str, Any]:
    limits = {"temperature": (0.0, 100.0), "top_k": (0, 2**31 - 1), "top_p": (0.0, 1.0), "min_p": (0.0, 1.0)}
    inside = {
        name: max(least, min(most, chosen[name])) for name, (least, most) in limits.items() if name in chosen
    }
    return chosen | inside


def _biases(
    given: Sequence[tuple[int | str, float | bool]] | Mapping[str, float | bool], engine: Engine
) -> Iterable[tuple[int, float]]:
    """A text stands for each of its tokens, and false for "never"."""
    pairs = [(_id_or_text(key), bias) for key, bias in given.items()] if isinstance(given, Mapping) else given
    for token, bias in pairs:
        if bias is True:
            raise BadRequest("a bias is a number, or false", "logit_bias")
        for token_id in [token] if isinstance(token, int) else engine.encode(token):
            yield token_id, -math.inf if bias is False else bias


def _id_or_text(key: str) -> int | str:
    return int(key) if key.isascii() and key.isdigit() and len(key) < 10 else key
