"""What the server asks of an engine beyond its present interface, in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nomoat.base.progress import Progress
from nomoat.base.settings import Settings
from nomoat.run.adapters import AdapterRef
from nomoat.run.engine import Engine
from nomoat.run.generation import Generation
from nomoat.run.protocol import TokenLogprob
from nomoat.run.sampling import SamplingParams
from nomoat.store.store import StoredModel

__all__ = ["begin", "engine_stats", "make_engine", "prompt_logprobs"]


def make_engine(
    model: StoredModel, parallel: int, context_length: int | None, threads: int | None, settings: Settings,
    progress: Progress,
) -> Engine:  # fmt: skip
    """An engine that answers `parallel` requests at once, where it can."""
    options = _known(Engine.__init__, {"parallel": parallel})
    return Engine(model, context_length=context_length, threads=threads, settings=settings,
                  progress=progress, **options)  # fmt: skip


def begin(
    engine: Engine,
    tokens: Sequence[int],
    sampling: SamplingParams,
    adapters: Sequence[AdapterRef],
    client: str,
) -> Generation:
    """Start an answer for `client`."""
    options = _known(Engine.generate, {"client": client})
    return engine.generate(tokens, sampling, adapters, **options)


def prompt_logprobs(
    engine: Engine, tokens: Sequence[int], adapters: Sequence[AdapterRef], top: int
) -> list[TokenLogprob | None]:
    """Log-probability of each token of a prompt and the `top` likeliest in its place; None for the first."""
    method = getattr(engine, "prompt_logprobs", None)
    if method is not None:
        found: list[TokenLogprob | None] = method(tokens, adapters, top)
        return found
    rows = engine.logits(tokens, adapters)[:-1].astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    texts: dict[int, bytes] = {}

    def entry(row: Any, token_id: int, others: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        if token_id not in texts:
            texts[token_id] = engine.detokenize([token_id]).encode()
        return TokenLogprob(token_id, texts[token_id], float(row[token_id]), others)

    found = [None]
    for row, token_id in zip(rows, tokens[1:], strict=True):
        likeliest = np.argsort(-row, kind="stable")[:top]
        found.append(entry(row, token_id, tuple(entry(row, int(index)) for index in likeliest)))
    return found


def engine_stats(engine: Engine) -> dict[str, float]:
    """The engine's own counters, where it has any."""
    stats = getattr(engine, "stats", None)
    return dict(stats()) if stats is not None and engine.worker_pid is not None else {}


def _known(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    known = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in known}
