"""What is trending: likes and downloads that count less with every day.

A score is ln(sum of w * e^(t / T)) over what happened, with a weight w for each kind and the time t when it happened.
Its order is that of exponentially fading sums at any moment, so no score needs to change while time passes.
"""

from __future__ import annotations

import math

__all__ = ["LIKE_WEIGHT", "score_with"]

LIKE_WEIGHT = 20.0  # a like says as much as twenty downloads
_FADE_MS = 7 * 24 * 3600 * 1000  # what is a week old counts 1/e


def score_with(score: float, weight: float, when_ms: int) -> float:
    """`score` (0: nothing happened yet) with something of `weight` at `when_ms`; a negative weight takes it back."""
    when = when_ms / _FADE_MS
    larger = max(score, when)
    total = math.exp(score - larger) + weight * math.exp(when - larger)
    return larger + math.log(total) if total > 0 else 0.0
