"""Ratios of two sides that took turns: medians with an interval, never the better of two runs."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence

__all__ = ["geometric_mean", "interval", "median_ratio", "ratio_words"]

_DRAWS = 2000


def interval(
    values: Sequence[float], of: Callable[[Sequence[float]], float] = statistics.median
) -> tuple[float, float]:
    """95 % bootstrap interval of `of`, the median by default."""
    draw = random.Random(0)
    found = sorted(of(draw.choices(values, k=len(values))) for _ in range(_DRAWS))
    return found[_DRAWS // 40], found[-_DRAWS // 40 - 1]


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios, ours divided by theirs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def ratio_words(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """`1.32 (1.21 to 1.40)`: the median of the rounds' ratios and its 95 % interval."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, high = interval(ratios)
    return f"{statistics.median(ratios):.3g} ({low:.3g} to {high:.3g})"


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of positive numbers."""
    return math.exp(statistics.fmean(math.log(value) for value in values))
