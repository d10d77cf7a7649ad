"""The rate at which this machine multiplies matrices of the model's shapes: the limit of any training on it."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from nomoat.formats.gguf_file import read_gguf
from nomoat.tune.architecture import read_architecture

__all__ = ["gemm_flops", "model_flops_per_token"]

_TOKENS, _HIDDEN, _INTERMEDIATE = 2048, 576, 1536


def gemm_flops(dtype: torch.dtype, hidden: int = _HIDDEN, intermediate: int = _INTERMEDIATE) -> float:
    """FLOP/s of (2048, hidden) @ W^T and of the way back (2048, intermediate) @ W; the best of five."""
    x, dz = (torch.randn(_TOKENS, width).to(dtype) for width in (hidden, intermediate))
    weight = torch.randn(intermediate, hidden).to(dtype)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        x @ weight.T
        dz @ weight
        best = min(best, time.perf_counter() - started)
    return 2 * 2 * _TOKENS * hidden * intermediate / best


def model_flops_per_token(model: Path) -> int:
    """Four for each weight: two forward, two back to the layer before; frozen weights need no more."""
    a = read_architecture(read_gguf(model))
    layer = a.hidden_size * (2 * a.heads.q_width + 2 * a.heads.kv_width + 3 * a.intermediate_size)
    return 4 * (a.num_hidden_layers * layer + a.vocab_size * a.hidden_size)
