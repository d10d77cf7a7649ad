"""How many tokens a model evaluates together as it would alone, to the bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["STEADY_PORTIONS", "steady_tokens"]

STEADY_PORTIONS = (1, 2, 3, 4, 8, 16)


def steady_tokens(rows: Mapping[int, NDArray[np.float32]]) -> int | None:
    """How many tokens may be evaluated together without changing a bit of their logits; None for any number.

    `rows[n]` are the logits `(16, n_vocab)` of the same tokens behind the same text, evaluated in portions of n, for
    each n of `STEADY_PORTIONS`. Some types have other routines for four tokens and more: the K types on x86.
    """
    steady = 1
    for portion in STEADY_PORTIONS:
        if not np.array_equal(rows[1], rows[portion]):
            return steady
        steady = portion
    return None
