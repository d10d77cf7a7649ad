"""Log-probabilities of tokens from rows of logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nomoat.run.llama import Model
from nomoat.run.protocol import TokenLogprob

__all__ = ["log_softmax", "token_logprob"]


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Natural log-probabilities along the last axis, in float32 with the maximum taken out."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normaliser: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normaliser


def token_logprob(model: Model, logits: NDArray[np.float32], token_id: int, top: int) -> TokenLogprob:
    """What `logits` (n_vocab,) say of `token_id`, with the `top` likeliest tokens, likeliest first."""
    values = log_softmax(logits)
    top = min(top, len(values))
    order = np.argpartition(values, len(values) - top) if top else np.zeros(0, np.intp)
    likeliest = order[len(order) - top :]
    entries = tuple(
        TokenLogprob(int(index), model.token_bytes(int(index), special=True), float(values[index]))
        for index in sorted(likeliest, key=lambda index: (-values[index], index))
    )
    return TokenLogprob(token_id, model.token_bytes(token_id, special=True), float(values[token_id]), entries)
