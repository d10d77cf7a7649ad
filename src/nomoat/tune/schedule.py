"""The learning rate over a run: warm-up, then a half cosine that reaches 0 at the planned end."""

from __future__ import annotations

import math

__all__ = ["learning_rate"]


def learning_rate(peak: float, step: int, total_steps: int, warmup_share: float) -> float:
    """Rate for step `step` (from 0) of `total_steps`; the last step still moves, the one after would not."""
    warmup = min(total_steps - 1, math.ceil(warmup_share * total_steps))
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total_steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
