"""One generation inside the worker: prompt in, pieces of text out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nomoat.run.llama import Aborted, Model
from nomoat.run.protocol import Generate, GenerateResult, Piece, TokenLogprob
from nomoat.run.sampler import Sampler
from nomoat.run.session import Session
from nomoat.run.text_stream import TextStream

__all__ = ["log_softmax", "run_generation"]

# Waking the reader for every token costs more than a token's worth of barriers on two cores; nobody reads
# faster than this.
_SECONDS_BETWEEN_PIECES = 0.033


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Natural log-probabilities along the last axis, in float32 with the maximum taken out."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normaliser: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normaliser


@dataclass
class _Outbox:
    """Gathers tokens into pieces and sends them: the first at once, the rest at a reader's pace."""

    id: int
    send: Callable[[Piece], None]
    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    sent_at: float = 0.0

    def add(self, text: str, token_id: int, logprob: TokenLogprob | None) -> None:
        self.text.append(text)
        self.token_ids.append(token_id)
        if logprob is not None:
            self.logprobs.append(logprob)
        if time.monotonic() - self.sent_at >= _SECONDS_BETWEEN_PIECES:
            self.flush()

    def flush(self, rest: str = "") -> None:
        text = "".join(self.text) + rest
        if text or self.token_ids:
            self.send(Piece(self.id, text, tuple(self.token_ids), tuple(self.logprobs)))
            self.text, self.token_ids, self.logprobs = [], [], []
            self.sent_at = time.monotonic()


def run_generation(session: Session, request: Generate, send: Callable[[Piece], None]) -> GenerateResult:
    """Continue `request.tokens`, sending pieces as they come. An abort ends it as "cancelled".

    Raises `InputError` where the prompt does not fit the context.
    """
    run = _Run(session, request, send)
    try:
        finish_reason = run.to_end()
    except Aborted:
        finish_reason = "cancelled"
    finally:
        run.sampler.close()
    run.outbox.flush(run.stream.finish())
    return run.result(finish_reason)


class _Run:
    """The state of one generation."""

    def __init__(self, session: Session, request: Generate, send: Callable[[Piece], None]) -> None:
        self.session, self.request = session, request
        self.sampler = Sampler(session.model, request.sampling, request.tokens)
        self.outbox = _Outbox(request.id, send)
        self.stream = TextStream(request.sampling.stop)
        self.count = self.decoded = self.cached = 0
        self.start = time.monotonic()
        self.prompt_end: float | None = None

    def to_end(self) -> str:
        """Evaluate the prompt, then choose and evaluate tokens until the answer ends; returns why it did."""
        session, request, sampling = self.session, self.request, self.request.sampling
        session.begin()
        self.cached = session.evaluate_prompt(request.tokens, request.adapters, request.reuse)
        self.prompt_end = time.monotonic()
        limit = min(sampling.max_tokens or session.room(), session.room())
        while True:
            token_id = self.sampler.choose(session.context)
            if session.model.is_end(token_id) and not sampling.ignore_end:
                return "stop"
            self._take(token_id)
            if self.stream.stopped:
                return "stop"
            if self.count >= limit:
                return "length"
            session.evaluate_next(token_id)
            self.decoded += 1

    def result(self, finish_reason: str) -> GenerateResult:
        """The figures of the finished generation."""
        end = time.monotonic()
        prompt_end = end if self.prompt_end is None else self.prompt_end
        return GenerateResult(
            finish_reason, len(self.request.tokens), self.cached, self.count, self.decoded,
            prompt_end - self.start, end - prompt_end, self.request.sampling.seed or 0,
            self.session.governor.threads, self.stream.matched,
        )  # fmt: skip

    def _take(self, token_id: int) -> None:
        self.count += 1
        text = self.stream.push(self.session.model.token_bytes(token_id))
        top = self.request.sampling.logprobs
        logprob = None
        if top is not None:
            logprob = _logprob(self.session.model, self.session.context.logits(), token_id, top)
        self.outbox.add(text, token_id, logprob)


def _logprob(model: Model, logits: NDArray[np.float32], token_id: int, top: int) -> TokenLogprob:
    values = log_softmax(logits)
    top = min(top, len(values))
    order = np.argpartition(values, len(values) - top) if top else np.zeros(0, np.intp)
    likeliest = order[len(order) - top :]
    entries = tuple(
        TokenLogprob(int(index), model.token_bytes(int(index), special=True), float(values[index]))
        for index in sorted(likeliest, key=lambda index: (-values[index], index))
    )
    return TokenLogprob(token_id, model.token_bytes(token_id, special=True), float(values[token_id]), entries)
