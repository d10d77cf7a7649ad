"""What is measured: a model with its adapters, in a running engine, asked for likelihoods and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nomoat.base.errors import EngineError
from nomoat.formats.chat_template import Message
from nomoat.run.adapters import AdapterRef, parse_adapter
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams

__all__ = ["Subject", "SubjectName", "parse_subject"]

_ANSWER = SamplingParams(max_tokens=32, temperature=0.0)


@dataclass(frozen=True)
class SubjectName:
    """What a user asks to be measured: a model by name or path, and adapters on it."""

    model: str
    adapters: tuple[AdapterRef, ...] = ()

    def __str__(self) -> str:
        parts = [_brief(self.model)]
        for ref in self.adapters:
            parts.append(_brief(str(ref.path)) + ("" if ref.scale == 1.0 else f":{ref.scale:g}"))
        return " + ".join(parts)


def parse_subject(text: str) -> SubjectName:
    """`smollm2+letters:0.8+work`: a model and adapters; the path of a file may hold a `+`."""
    if Path(text).expanduser().exists():
        return SubjectName(text)
    model, *adapters = text.split("+")
    return SubjectName(model, tuple(parse_adapter(adapter) for adapter in adapters))


@dataclass(frozen=True)
class Subject:
    """A running engine and the adapters that every question goes through."""

    engine: Engine
    adapters: Sequence[AdapterRef] = ()

    @property
    def context_length(self) -> int:
        """Tokens that can be scored at once."""
        return self.engine.model.context_length

    @property
    def prefix_token(self) -> int:
        """What stands before the first token of a text, so that it has a probability too: BOS, else EOS."""
        model = self.engine.model
        for token in (model.bos_token_id, model.eos_token_id):
            if token is not None:
                return token
        raise EngineError(
            "the vocabulary has neither a BOS nor an EOS token", "measure speed alone: --tasks speed"
        )

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text: nothing is added, and nothing in it is read as a control token."""
        return self.engine.encode(text, parse_special=False)

    def logprobs(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """Natural log-probabilities `(T - 1,)` of tokens 1..T-1, each after all before it."""
        return self.engine.token_logprobs(tokens, self.adapters).astype(np.float64)

    def loglikelihood(self, context: str, continuation: str) -> float:
        """Natural log-probability of `continuation` after `context`, tokenised together as lm_eval does."""
        kept = context.rstrip()
        context, continuation = kept, context[len(kept) :] + continuation
        start, whole = self.encode(context), self.encode(context + continuation)
        model = self.engine.model
        n_scored = len(whole) - len(start)
        if model.adds_bos or not start:
            whole = [self.prefix_token, *whole]
        return float(self.logprobs(whole)[len(whole) - 1 - n_scored :].sum())

    def answer(self, question: str, system: str | None = None) -> str:
        """The likeliest answer in the model's own chat template, at most 32 tokens.

        A model that thinks is told not to: 32 tokens are no room for both.
        """
        messages: list[Message] = [{"role": "user", "content": question}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        variables = {"enable_thinking": False} if self.thinks else {}
        sampling = replace(_ANSWER, seed=0)
        return self.engine.chat(messages, sampling, self.adapters, reuse=False, variables=variables).text()

    @property
    def thinks(self) -> bool:
        """Whether the model would think before it answers."""
        return self.engine.template.thinks


def _brief(name: str) -> str:
    """A name as it is, a path without its folders."""
    return Path(name).name or name
