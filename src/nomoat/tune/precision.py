"""bf16 or fp32, decided by timing this machine: where bf16 is emulated it is several times slower than fp32."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from nomoat.base.errors import InputError

__all__ = ["PRECISIONS", "Precision", "probe_precision"]

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}
_SIZE = 512
_ROUNDS = 8  # the first also starts threads and generates code; only the best counts
_NATIVE = 1.2  # bf16 must be this much faster than fp32 to be worth its rounding


@dataclass(frozen=True)
class Precision:
    """The chosen compute dtype and the measured GEMM rates, in FLOP/s."""

    dtype: torch.dtype
    bf16_flops: float
    fp32_flops: float

    @property
    def name(self) -> str:
        """`bf16` or `fp32`."""
        return next(name for name, dtype in PRECISIONS.items() if dtype == self.dtype)


def probe_precision(wanted: str = "auto") -> Precision:
    """Time one GEMM size in both dtypes, about 50 ms in all; `wanted` overrules the choice."""
    rates = _rates()
    if wanted == "auto":
        wanted = "bf16" if rates["bf16"] > _NATIVE * rates["fp32"] else "fp32"
    if wanted not in PRECISIONS:
        raise InputError(f"unknown precision {wanted!r}", "use auto, bf16 or fp32")
    return Precision(PRECISIONS[wanted], rates["bf16"], rates["fp32"])


def _rates() -> dict[str, float]:
    """Best FLOP/s of each dtype. They take turns, so that other work on the machine hits both or neither."""
    operands = {name: torch.ones(_SIZE, _SIZE, dtype=dtype) for name, dtype in PRECISIONS.items()}
    best = dict.fromkeys(operands, float("inf"))
    for _ in range(_ROUNDS):
        for name, operand in operands.items():
            started = time.perf_counter()
            operand @ operand
            best[name] = min(best[name], time.perf_counter() - started)
    return {name: 2 * _SIZE**3 / seconds for name, seconds in best.items()}
