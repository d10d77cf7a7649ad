"""How a run fits in memory, decided before it starts: what is kept, what is computed again, in what portions."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nomoat.base.errors import NotEnoughMemoryError
from nomoat.store.memory import available_memory_bytes
from nomoat.tune.architecture import Architecture

__all__ = ["MemoryPlan", "plan_memory"]

_GIB = 2**30
_KEEP_AT_MOST = 1 * _GIB  # unpacked weights above this stay packed
_LEAVE_USABLE = 5 * _GIB  # more than this is only taken when asked for: a laptop has other work to do
_RUNTIME = 450 * 2**20  # interpreter, torch, tokenizer
_FEWEST_TOKENS = 512  # below this, unpacking a layer costs more than using it


@dataclass(frozen=True)
class MemoryPlan:
    """`peak_bytes` is the prediction; the flags are those of `Network`."""

    keep: bool
    recompute: bool
    micro_tokens: int
    peak_bytes: int


def plan_memory(
    architecture: Architecture, file_bytes: int, adapter_count: int, dtype: torch.dtype,
    batch_tokens: int, max_length: int, limit_bytes: int | None = None,
) -> MemoryPlan:  # fmt: skip
    """The fastest plan below the limit (70 % of free memory, 5 GiB at most, unless `limit_bytes` is given).

    Raises `NotEnoughMemoryError` with figures where even the leanest does not fit.
    """
    available = available_memory_bytes()
    limit = limit_bytes or min(int(0.7 * available), _LEAVE_USABLE)
    plans = [
        MemoryPlan(
            keep,
            recompute,
            micro,
            _peak(architecture, file_bytes, adapter_count, dtype, micro, keep, recompute),
        )
        for keep, recompute, micro in _choices(architecture, dtype, batch_tokens, max_length)
    ]
    for plan in plans:
        if plan.peak_bytes <= limit:
            return plan
    leanest = min(plans, key=lambda plan: plan.peak_bytes)
    raise NotEnoughMemoryError(
        f"training needs about {leanest.peak_bytes / _GIB:.1f} GiB, but {limit / _GIB:.1f} GiB may be used "
        f"({available / _GIB:.1f} GiB are free)",
        "use --max-length 512, a smaller base model, or allow more with --memory 12GB",
    )


def _choices(
    architecture: Architecture, dtype: torch.dtype, batch_tokens: int, max_length: int
) -> list[tuple[bool, bool, int]]:
    """(keep, recompute, micro tokens), fastest first."""
    fewest = max(_FEWEST_TOKENS, max_length)
    sizes = [max(batch_tokens, max_length)]
    while sizes[-1] // 2 >= fewest:
        sizes.append(sizes[-1] // 2)
    keeps = [True, False] if _unpacked(architecture, dtype) <= _KEEP_AT_MOST else [False]
    return [(keep, recompute, micro) for recompute in (False, True) for keep in keeps for micro in sizes]


def _unpacked(a: Architecture, dtype: torch.dtype) -> int:
    per_layer = a.hidden_size * (2 * a.heads.q_width + 2 * a.heads.kv_width + 3 * a.intermediate_size)
    return (a.num_hidden_layers * per_layer + a.vocab_size * a.hidden_size) * dtype.itemsize


def _peak(
    a: Architecture,
    file_bytes: int,
    adapter_count: int,
    dtype: torch.dtype,
    tokens: int,
    keep: bool,
    recompute: bool,
) -> int:
    size = dtype.itemsize
    qkv = a.heads.q_width + 2 * a.heads.kv_width
    layer = 2 * a.hidden_size + qkv + a.heads.q_width + 2 * a.intermediate_size  # see LayerState
    kept = a.num_hidden_layers * (a.hidden_size if recompute else layer)
    passing = layer + 5 * a.intermediate_size + 4 * a.hidden_size
    head = a.vocab_size * a.hidden_size * size
    weights = _unpacked(a, dtype) if keep else head
    adapters = adapter_count * (4 * 4 + size)  # values, gradients, two moments, compute copy
    logits = 2 * 64 * 2**20
    return _RUNTIME + file_bytes + weights + adapters + logits + tokens * (kept + passing) * size
