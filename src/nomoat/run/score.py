"""Reading a model inside the worker: logits of every position, log-probabilities, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from nomoat.base.errors import InputError
from nomoat.run.generate import log_softmax
from nomoat.run.llama import Context
from nomoat.run.protocol import Embed, Rows, Score
from nomoat.run.session import Session

__all__ = ["run_embed", "run_score"]

_MOST_EMBED_TOKENS = 2048


def run_score(session: Session, request: Score, send: Callable[[Rows], None]) -> None:
    """Evaluate the tokens from an empty memory and send rows as they come.

    "logits": `(T, n_vocab)`, row t is what follows tokens 0..t. "logprobs": `(T - 1,)`, entry t is the
    log-probability of token t + 1. Raises `InputError` where the tokens do not fit the context.
    """
    tokens = request.tokens
    for start, logits in _chunks(session, request):
        if request.want == "logits":
            send(Rows(request.id, start, logits.copy()))
            continue
        targets = tokens[start + 1 : start + 1 + len(logits)]
        values = log_softmax(logits[: len(targets)])
        send(Rows(request.id, start, values[np.arange(len(targets)), targets]))


def run_embed(session: Session, request: Embed, send: Callable[[Rows], None]) -> None:
    """Send one vector `(1, n_embd)` of length 1 per input, in order.

    Raises `InputError` for an empty input or one that is too long.
    """
    longest = min(_MOST_EMBED_TOKENS, session.context.context_length)
    for index, tokens in enumerate(request.inputs):
        session.model.check_tokens(tokens)
        if not 0 < len(tokens) <= longest:
            raise InputError(f"input {index} has {len(tokens):,} tokens, embeddings take 1 to {longest:,}",
                             "split the text")  # fmt: skip
    longest = max((len(tokens) for tokens in request.inputs), default=1)
    threads = session.governor.top
    context = Context(
        session.model, longest, threads, batch_tokens=longest, abort=session.abort, embeddings=True
    )
    with closing(context):
        for index, tokens in enumerate(request.inputs):
            vector = context.pooled(tokens)
            norm = float(np.linalg.norm(vector)) or 1.0
            send(Rows(request.id, index, (vector / norm)[None, :]))


def _chunks(session: Session, request: Score) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """`(start, logits (t, n_vocab))`; the view is valid until the next chunk."""
    tokens, context = request.tokens, session.context
    session.model.check_tokens(tokens)
    if not 0 < len(tokens) <= context.context_length:
        raise InputError(f"{len(tokens):,} tokens do not fit the context of {context.context_length:,}",
                         "split them, or use a larger --context-length")  # fmt: skip
    session.begin()
    session.use_adapters(request.adapters)
    session.forget()
    for start in range(0, len(tokens), context.output_tokens):
        chunk = tokens[start : start + context.output_tokens]
        context.evaluate(chunk, start, "all")
        session.tokens.extend(chunk)
        yield start, context.logits(len(chunk))
