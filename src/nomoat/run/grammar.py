"""Answers that follow a grammar: llama.cpp's GBNF, checked token by token."""

from __future__ import annotations

import ctypes
import time
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from nomoat.base.errors import InputError
from nomoat.run.llama import Model

__all__ = ["Grammar"]

_MOST_BYTES, _MOST_DEPTH = (
    256 * 1024,
    200,
)  # llama.cpp's parser calls itself for each bracket, and must not overflow
_MOST_SECONDS = 2.0  # for one token: others wait for their answers meanwhile
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


def _check(text: str) -> None:
    """Refuse what would end the process in llama.cpp's parser."""
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    if len(text) > _MOST_BYTES or deepest > _MOST_DEPTH:
        most = f"{_MOST_BYTES:,} characters and {_MOST_DEPTH} brackets in each other"
        raise InputError("the grammar is too large", f"use at most {most}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError("the grammar is not valid Unicode", "take lone surrogates out") from error


class Grammar:
    """The state of one grammar: which tokens may come next."""

    def __init__(self, model: Model, text: str) -> None:
        """Parse GBNF whose start is the rule `root`. Raises `InputError` with llama.cpp's reason."""
        _check(text)
        model.log.clear()
        self._sampler = llama_cpp.llama_sampler_init_grammar(model.vocab, text.encode(), b"root")
        if not self._sampler:
            raise InputError(f"the grammar cannot be read ({model.log.reason()})",
                             "see llama.cpp's description of GBNF; the first rule must be `root`")  # fmt: skip

    def allows(self, token_id: int) -> bool:
        """Whether the token may come next."""
        candidates = np.array([(token_id, 0.0, 0.0)], _CANDIDATE)
        self._apply(self._sampler, candidates)
        return bool(np.isfinite(candidates["logit"][0]))

    def choose(self, logits: NDArray[np.float32], chain: Any) -> int:
        """The choice of the sampler `chain` among the tokens that may come next; `logits` (n_vocab,)."""
        candidates = np.zeros(len(logits), _CANDIDATE)
        candidates["id"], candidates["logit"] = np.arange(len(logits)), logits
        self._apply(self._sampler, candidates)
        legal = np.ascontiguousarray(candidates[np.isfinite(candidates["logit"])])
        if not len(legal):
            raise InputError("the grammar allows no token of this model here", "allow more in the grammar")
        selected, chosen = self._apply(chain, legal)
        token_id = int(chosen[selected].id)
        llama_cpp.llama_sampler_accept(chain, token_id)
        return token_id

    def accept(self, token_id: int) -> None:
        """The token was taken; it must be allowed."""
        llama_cpp.llama_sampler_accept(self._sampler, token_id)

    def close(self) -> None:
        """Free the grammar."""
        if self._sampler is not None:
            llama_cpp.llama_sampler_free(self._sampler)
            self._sampler = None

    @staticmethod
    def _apply(sampler: Any, candidates: NDArray[np.void]) -> tuple[int, Any]:
        """Run a sampler over candidates; returns which was selected and the array that it points at then."""
        data = candidates.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
        array = llama_cpp.llama_token_data_array(data, len(candidates), -1, False)
        start = time.monotonic()
        llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
        if time.monotonic() - start > _MOST_SECONDS:
            raise InputError("the grammar can be read in too many ways", "make it less ambiguous")
        return int(array.selected), array.data
