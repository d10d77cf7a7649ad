"""How many tokens a model evaluates together as it would alone, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["steady_tokens"]

_PORTIONS = (2, 3, 4, 8, 16)


def steady_tokens(rows: Callable[[int], NDArray[np.float32]]) -> int | None:
    """How many tokens may be evaluated together without changing a bit of their logits; None for any number.

    `rows(n)` evaluates the same 16 tokens behind the same text in portions of n: logits `(16, n_vocab)`.
    Some types have other routines for four tokens and more (the K types on x86), so a model is asked once.
    """
    alone = np.array(rows(1))
    steady = 1
    for portion in _PORTIONS:
        if not np.array_equal(alone, rows(portion)):
            return steady
        steady = portion
    return None
