"""llama-server's sampling options as the engine's, and back as the settings that its answers tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams
from nomoat.server.errors import BadRequest
from nomoat.server.llama_server.wire import CompletionRequest

__all__ = ["sampling_of", "settings_of"]

_RANDOM_SEED = 2**32 - 1  # llama.cpp's word for "choose one for me"
_NAMES = (
    "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "presence_penalty",
    "frequency_penalty", "grammar",
)  # fmt: skip
# Samplers and limits that nomoat lacks, with the values that mean "off". Clients send them all the time.
_OFF: dict[str, float] = {
    "dynatemp_range": 0.0, "top_n_sigma": -1.0, "xtc_probability": 0.0, "typical_p": 1.0, "dry_multiplier": 0.0,
    "mirostat": 0, "adaptive_target": -1.0, "min_keep": 0, "n_indent": 0, "t_max_predict_ms": 0,
}  # fmt: skip
# The order in which they are applied, each with its short name and with what it does where it is left out.
_SAMPLERS: dict[str, tuple[str, dict[str, float]]] = {
    "penalties": ("e", {"repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}),
    "top_k": ("k", {"top_k": 0}),
    "top_p": ("p", {"top_p": 1.0}),
    "min_p": ("m", {"min_p": 0.0}),
    "temperature": ("t", {"temperature": 1.0}),
}


def sampling_of(body: CompletionRequest, engine: Engine) -> SamplingParams:
    """The engine's options for a request; values out of range are moved into it, as llama-server does.

    Raises `BadRequest` for what would change the answer and is not there.
    """
    _check_off(body)
    chosen = {name: value for name in _NAMES if (value := getattr(body, name)) is not None}
    chosen |= _left_out(body.samplers)
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
    off = {name: value for name, value in _OFF.items() if name not in ("n_indent", "t_max_predict_ms")}
    limit = -1 if sampling.max_tokens is None else sampling.max_tokens
    return {
        "seed": _RANDOM_SEED if sampling.seed is None else sampling.seed,
        **{name: getattr(sampling, name) for name in _NAMES if name != "grammar"}, **off,
        "max_tokens": limit, "n_predict": limit, "n_keep": 0, "n_discard": 0, "ignore_eos": sampling.avoid_end,
        "n_probs": sampling.logprobs or 0, "samplers": list(_SAMPLERS), "post_sampling_probs": False,
        "timings_per_token": False,
    }  # fmt: skip


def _check_off(body: CompletionRequest) -> None:
    for name, off in _OFF.items():
        value = getattr(body, name)
        if value is not None and not _is_off(name, value):
            raise BadRequest(f"{name} {value:g} is not supported", name, f"leave it out, or send {off:g}")


def _is_off(name: str, value: float) -> bool:
    """Whether llama.cpp does nothing with this value."""
    if name == "typical_p":
        return value >= 1
    if name == "adaptive_target":
        return value < 0
    return value == 0 if name == "dry_multiplier" else value <= 0


def _left_out(samplers: list[str] | str | None) -> dict[str, float]:
    """The options that switch off what `samplers`, names or their letters, leaves out."""
    if samplers is None:
        return {}
    ours = [name for name, (letter, _) in _SAMPLERS.items() if name in samplers or letter in samplers]
    order = [sampler for sampler in samplers if sampler in ours or sampler in _letters(ours)]
    if order not in (ours, _letters(ours)):
        raise BadRequest("samplers in this order are not supported", "samplers",
                         f"they are applied as {', '.join(_SAMPLERS)}")  # fmt: skip
    missing = (off for name, (_, off) in _SAMPLERS.items() if name not in ours)
    return {option: value for off in missing for option, value in off.items()}


def _letters(names: Iterable[str]) -> list[str]:
    return [_SAMPLERS[name][0] for name in names]


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
