"""Reading a model inside the worker: logits of every position, log-probabilities, embeddings.

Each is a job that the worker advances portion by portion, so that answers which run meanwhile go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nomoat.base.errors import ContextOverflowError, InputError, OverloadedError
from nomoat.run.adapter_pool import AdapterSet
from nomoat.run.context import Context, NoRoom, Part
from nomoat.run.kv.memory import Held
from nomoat.run.logprobs import log_softmax, token_logprob
from nomoat.run.protocol import Embed, Rows, Score
from nomoat.run.session import Session

__all__ = ["embed_job", "score_job"]


def score_job(session: Session, request: Score, send: Callable[[Rows], None]) -> Iterator[None]:
    """Evaluate the tokens in a sequence of their own and send rows as they come, a portion at a time.

    "logits": `(T, n_vocab)`, row t is what follows tokens 0..t. "logprobs": `(T - 1,)`, entry t is the
    log-probability of token t + 1; "top": the same as `TokenLogprob`s. Raises `ContextOverflowError` where the
    tokens do not fit the context. The result does not depend on what came before, to the last bit; what runs
    beside it may change the order of sums.
    """
    tokens = request.tokens
    session.model.check_tokens(tokens)
    if not 0 < len(tokens) <= session.context_length:
        raise ContextOverflowError(
            f"{len(tokens):,} tokens do not fit the context of {session.context_length:,}",
            "split them, or use a larger --context-length",
        )
    adapters = session.pool.named(request.adapters)
    session.pool.load(adapters)
    if not session.scheduler.busy:
        session.memory.forget_idle()
    held = _fresh(session, adapters)
    try:
        size = session.context.output_tokens
        for start in range(0, len(tokens), size):
            _prepare(session, adapters)
            portion = tokens[start : start + size]
            yield from _evaluated(session, held, portion)
            logits = session.context.logits(len(portion)).reshape(len(portion), -1)
            send(Rows(request.id, start, _values(session, request, start, logits)))
            yield
    except BaseException:
        session.memory.drop(held)
        raise
    session.memory.release(held)


def _fresh(session: Session, adapters: AdapterSet) -> Held:
    try:
        return session.memory.fresh(adapters)
    except NoRoom:
        raise OverloadedError("every sequence of the context is busy", "try again a little later") from None


def _evaluated(session: Session, held: Held, tokens: list[int]) -> Iterator[None]:
    """Evaluate `tokens` behind what is held; waits, a step at a time, while answers need the room."""
    part = Part(held.sequence, len(held.tokens), tokens, len(tokens))
    while True:
        try:
            session.context.evaluate([part])
            break
        except NoRoom:
            if session.memory.make_room():
                continue
            if not session.scheduler.busy:
                raise OverloadedError(
                    "there is no room in the context", "use a larger --context-length"
                ) from None
            yield
            _prepare(session, held.adapters)
    session.memory.extend(held, tokens)


def _prepare(session: Session, adapters: AdapterSet) -> None:
    """Others may have run since: their adapters are applied, and their threads."""
    session.pool.load(adapters)
    session.pool.apply(adapters)
    session.context.set_threads(session.governor.threads, session.governor.top)


def _values(session: Session, request: Score, start: int, logits: NDArray[np.float32]) -> Any:
    if request.want == "logits":
        return logits.copy()
    targets = request.tokens[start + 1 : start + 1 + len(logits)]
    if request.want == "top":
        pairs = zip(logits, targets, strict=False)
        return [token_logprob(session.model, row, target, request.top) for row, target in pairs]
    values = log_softmax(logits[: len(targets)])
    return values[np.arange(len(targets)), targets]


def embed_job(session: Session, request: Embed, send: Callable[[Rows], None]) -> Iterator[None]:
    """Send one vector `(1, n_embd)` of length 1 per input, in order.

    Raises `InputError` for an empty input and `ContextOverflowError` for one that is too long.
    """
    for index, tokens in enumerate(request.inputs):
        session.model.check_tokens(tokens)
        if not tokens:
            raise InputError(f"input {index} is empty", "give at least one token")
        if len(tokens) > session.most_embed_tokens:
            raise ContextOverflowError(
                f"input {index} has {len(tokens):,} tokens, embeddings take {session.most_embed_tokens:,}",
                "split the text",
            )
    longest = max((len(tokens) for tokens in request.inputs), default=1)
    threads = session.governor.top
    context = Context(
        session.model, longest, threads, batch_tokens=longest, abort=session.abort, embeddings=True,
        barriers=session.barriers,
    )  # fmt: skip
    with closing(context):
        for index, tokens in enumerate(request.inputs):
            vector = context.pooled(tokens)
            norm = float(np.linalg.norm(vector)) or 1.0
            send(Rows(request.id, index, (vector / norm)[None, :]))
            yield
