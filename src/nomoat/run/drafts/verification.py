"""Which drafted tokens count as the model's own choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["accepted_count", "steady_tokens", "trustworthy"]

_PORTIONS = (2, 3, 4, 8, 16)


def accepted_count(draft: Sequence[int], chosen: Sequence[int]) -> int:
    """How many drafted tokens are right: `chosen[i]` is the model's choice where `draft[i]` was put."""
    for index, (guess, choice) in enumerate(zip(draft, chosen, strict=False)):
        if guess != choice:
            return index
    return min(len(draft), len(chosen))


def trustworthy(logits: NDArray[np.float32], token: int, epsilon: float) -> bool:
    """Whether `token` leads every other of these `logits` `(n_vocab,)` by more than `epsilon`.

    The same text evaluated in other portions gives slightly other logits where llama.cpp uses other kernels.
    A choice with a smaller lead may differ from that of plain decoding.
    """
    return int(np.count_nonzero(logits >= logits[token] - np.float32(epsilon))) == 1


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
