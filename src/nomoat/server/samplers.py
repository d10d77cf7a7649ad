"""llama-server's own fields in requests: samplers that nomoat lacks or a request leaves out, and what else they ask.

Clients of llama-server send them to its own addresses and to `/v1/...` alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nomoat.server.errors import BadRequest
from nomoat.server.timings import StreamFigures
from nomoat.server.wire import Body

__all__ = ["ABSENT", "SAMPLERS", "AbsentOptions", "SharedOptions", "check_absent", "left_out"]

# Samplers and limits that nomoat lacks, with the values that mean "off". Clients send them all the time.
ABSENT: dict[str, float] = {
    "dynatemp_range": 0.0, "top_n_sigma": -1.0, "xtc_probability": 0.0, "typical_p": 1.0, "dry_multiplier": 0.0,
    "mirostat": 0, "adaptive_target": -1.0, "min_keep": 0, "n_indent": 0, "t_max_predict_ms": 0,
}  # fmt: skip
# The order in which they are applied, each with its short name and with what it does where it is left out.
SAMPLERS: dict[str, tuple[str, dict[str, float]]] = {
    "penalties": ("e", {"repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}),
    "top_k": ("k", {"top_k": 0}),
    "top_p": ("p", {"top_p": 1.0}),
    "min_p": ("m", {"min_p": 0.0}),
    "temperature": ("t", {"temperature": 1.0}),
}


class AbsentOptions(Body, kw_only=True):
    """Samplers and limits that nomoat lacks. They may have the values that switch them off."""

    dynatemp_range: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    typical_p: float | None = None
    dry_multiplier: float | None = None
    mirostat: float | None = None
    adaptive_target: float | None = None
    min_keep: float | None = None
    n_indent: float | None = None
    t_max_predict_ms: float | None = None


class SharedOptions(AbsentOptions, kw_only=True):
    """Fields that mean the same at llama-server's own addresses and, in requests of its clients, at OpenAI's."""

    samplers: list[str] | str | None = None
    ignore_eos: bool | None = None
    grammar: str | None = None
    json_schema: dict[str, Any] | None = None
    cache_prompt: bool | None = None
    stream: bool | None = None
    timings_per_token: bool | None = None
    return_progress: bool | None = None

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Fields that would change the answer and cannot be honoured."""
        return {
            "post_sampling_probs": "probabilities are those of the model's unmodified softmax",
            "grammar_lazy": "a grammar counts from the first token on",
        }  # fmt: skip

    @property
    def wanted_json(self) -> dict[str, Any] | bool | None:
        """`json_schema`, True for any object, which `{}` stands for; a grammar counts more."""
        return None if self.grammar or self.json_schema is None else self.json_schema or True

    @property
    def wants_progress(self) -> bool:
        """Whether a stream tells figures before its end, some of which come with the prompt's progress."""
        return bool(self.stream and (self.timings_per_token or self.return_progress))

    def figures(self) -> StreamFigures:
        """What a stream tells of one answer beside its text."""
        return StreamFigures(
            with_timings=bool(self.timings_per_token), with_progress=bool(self.return_progress)
        )


def check_absent(body: AbsentOptions) -> None:
    """Raise `BadRequest` for a sampler that nomoat lacks, unless it is switched off."""
    for name, off in ABSENT.items():
        value = getattr(body, name)
        if value is not None and not _is_off(name, value):
            raise BadRequest(f"{name} {value:g} is not supported", name, f"leave it out, or send {off:g}")


def left_out(samplers: list[str] | str | None) -> dict[str, float]:
    """The options that switch off what `samplers`, names or their letters, leaves out."""
    if samplers is None:
        return {}
    ours = [name for name, (letter, _) in SAMPLERS.items() if name in samplers or letter in samplers]
    order = [sampler for sampler in samplers if sampler in ours or sampler in _letters(ours)]
    if order not in (ours, _letters(ours)):
        raise BadRequest("samplers in this order are not supported", "samplers",
                         f"they are applied as {', '.join(SAMPLERS)}")  # fmt: skip
    missing = (off for name, (_, off) in SAMPLERS.items() if name not in ours)
    return {option: value for off in missing for option, value in off.items()}


def _is_off(name: str, value: float) -> bool:
    """Whether llama.cpp does nothing with this value."""
    if name == "typical_p":
        return value >= 1
    if name == "adaptive_target":
        return value < 0
    return value == 0 if name == "dry_multiplier" else value <= 0


def _letters(names: Iterable[str]) -> list[str]:
    return [SAMPLERS[name][0] for name in names]
