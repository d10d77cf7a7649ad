"""llama.cpp's sampler chain, built from `SamplingParams`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from nomoat.base.errors import NomoatError
from nomoat.run.context import Context
from nomoat.run.grammar import Grammar
from nomoat.run.llama import Model
from nomoat.run.sampling import SamplingParams

__all__ = ["Sampler"]


class Sampler:
    """Chooses the next token from a context's last logits. Close it after its request."""

    def __init__(self, model: Model, params: SamplingParams, prompt: Sequence[int]) -> None:
        """Build the chain in llama.cpp's own order; `params.seed` must be set unless greedy.

        Penalties look back into `prompt`, too, as llama.cpp's server does it.
        """
        # numpy finds the largest logit ten times faster than the chain, which copies all candidates first.
        self._biases = _biases(model, params)
        self._greedy = params.temperature == 0 and not params.penalises and not self._biases
        self._grammar = Grammar(model, params.grammar) if params.grammar is not None else None
        self._penalises = params.penalises
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        try:
            self._build(model, params, prompt)
        except NomoatError:
            self.close()
            raise

    def _build(self, model: Model, params: SamplingParams, prompt: Sequence[int]) -> None:
        self._add_bias(model)
        if params.penalises:
            self._add(llama_cpp.llama_sampler_init_penalties(
                model.n_vocab, params.repeat_last_n, params.repeat_penalty, params.frequency_penalty,
                params.presence_penalty,
            ))  # fmt: skip
        if params.temperature > 0:
            self._add_random(params)
        else:
            self._add(llama_cpp.llama_sampler_init_greedy())
        if params.penalises:
            for token_id in prompt[-params.repeat_last_n :]:
                llama_cpp.llama_sampler_accept(self._chain, token_id)

    def choose(self, context: Context, logits: NDArray[np.float32], row: int) -> int:
        """The next token, from row `row` of the context's last `logits` (rows, n_vocab)."""
        if self._grammar is not None and self._penalises:
            # The chain remembers every token that it chooses, so it must only choose what is legal.
            token_id = self._grammar.choose(logits[row], self._chain)
            self._grammar.accept(token_id)
            return token_id
        if self._greedy:
            token_id = int(logits[row].argmax())
        else:
            token_id = int(llama_cpp.llama_sampler_sample(self._chain, context.pointer, row - len(logits)))
        if self._grammar is None:
            return token_id
        # Nearly always the free choice is a legal one; asking the grammar of every token takes many times longer.
        if not self._grammar.allows(token_id):
            token_id = self._grammar.choose(logits[row], self._chain)
        self._grammar.accept(token_id)
        return token_id

    def close(self) -> None:
        """Free the chain."""
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None
        if self._grammar is not None:
            self._grammar.close()

    def _add(self, sampler: object) -> None:
        llama_cpp.llama_sampler_chain_add(self._chain, sampler)

    def _add_bias(self, model: Model) -> None:
        if not self._biases:
            return
        count = len(self._biases)
        entries = [llama_cpp.llama_logit_bias(token_id, bias) for token_id, bias in self._biases]
        biases = (llama_cpp.llama_logit_bias * count)(*entries)
        self._add(llama_cpp.llama_sampler_init_logit_bias(model.n_vocab, count, biases))

    def _add_random(self, params: SamplingParams) -> None:
        if params.top_k > 0:
            self._add(llama_cpp.llama_sampler_init_top_k(params.top_k))
        if params.top_p < 1:
            self._add(llama_cpp.llama_sampler_init_top_p(params.top_p, 1))
        if params.min_p > 0:
            self._add(llama_cpp.llama_sampler_init_min_p(params.min_p, 1))
        self._add(llama_cpp.llama_sampler_init_temp(params.temperature))
        self._add(llama_cpp.llama_sampler_init_dist(params.seed))


def _biases(model: Model, params: SamplingParams) -> list[tuple[int, float]]:
    """What is added to the logits of which tokens. Raises `InputError` for a token that does not exist."""
    model.check_tokens([token_id for token_id, _ in params.logit_bias])
    ends = model.end_tokens if params.avoid_end else ()
    return [*params.logit_bias, *((token_id, -math.inf) for token_id in ends)]
