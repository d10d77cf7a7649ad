"""`POST /api/embed` and the older `POST /api/embeddings`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from nomoat.run.engine import Engine
from nomoat.server.errors import BadRequest, ollama_error
from nomoat.server.models import Models
from nomoat.server.ollama.answers import figures
from nomoat.server.ollama.translate import model_name
from nomoat.server.ollama.wire import EmbeddingsRequest, EmbedRequest
from nomoat.server.service import service_of
from nomoat.server.wire import Operation, json_response, while_connected

__all__ = ["OPERATIONS", "embed", "embeddings", "shortened"]

_MOST_INPUTS = 2048


async def embed(request: Request, body: EmbedRequest) -> Response:
    """One vector of length 1 for each text; one that is too long is cut at its end, unless told otherwise."""
    start = time.monotonic()
    texts = [body.input] if isinstance(body.input, str) else body.input
    if isinstance(body.input, str) and not body.input:
        texts = []  # Ollama's way to only load the model
    elif not all(texts) or len(texts) > _MOST_INPUTS:
        raise BadRequest(f"give up to {_MOST_INPUTS} texts, none of them empty", "input")
    work = to_thread.run_sync(
        _vectors,
        service_of(request).models,
        body.model,
        texts,
        body.dimensions or 0,
        body.truncate is not False,
        limiter=service_of(request).long_jobs,
    )
    rows, count = await while_connected(request, work)
    seconds = time.monotonic() - start
    counts = figures(total_seconds=seconds, load_seconds=0.0, prompt_tokens=count, prompt_seconds=seconds,
                     completion_tokens=0, completion_seconds=0.0)  # fmt: skip
    kept = {name: counts[name] for name in ("total_duration", "load_duration", "prompt_eval_count")}
    return json_response({"model": body.model, "embeddings": rows.tolist(), **kept})


async def embeddings(request: Request, body: EmbeddingsRequest) -> Response:
    """The vector of one text; an empty one has none."""
    texts = [body.prompt] if body.prompt else []
    work = to_thread.run_sync(
        _vectors,
        service_of(request).models,
        body.model,
        texts,
        0,
        False,
        limiter=service_of(request).long_jobs,
    )
    rows, _ = await while_connected(request, work)
    return json_response({"embedding": rows[0].tolist() if len(rows) else []})


def _vectors(
    models: Models, name: str, texts: Sequence[str], dimensions: int, truncate: bool
) -> tuple[NDArray[np.float32], int]:
    """Vectors `(N, dimensions)` float32 of length 1, and the number of tokens read; 0 dimensions are all."""
    target = models.resolve(model_name(name))
    if target.adapters:
        raise BadRequest("embeddings are made without adapters", "model", f"use {target.base}")
    tokens = [target.engine.encode(text, add_special=True) for text in texts]
    if truncate:
        tokens = _fitting(target.engine, tokens)
    rows = target.engine.embed(tokens)
    if dimensions > rows.shape[1]:
        raise BadRequest(f"this model's vectors have {rows.shape[1]} dimensions", "dimensions")
    if dimensions:
        rows = rows[:, :dimensions]
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows, sum(len(each) for each in tokens)


def _fitting(engine: Engine, texts: list[list[int]]) -> list[list[int]]:
    most = engine.model.most_embed_tokens
    if all(len(tokens) <= most for tokens in texts):
        return texts
    special = engine.encode("", add_special=True)
    return [shortened(tokens, most, special) for tokens in texts]


def shortened(tokens: list[int], most: int, special: list[int]) -> list[int]:
    """The first `most` of `tokens`, whose end keeps what of `special`, the model's frame for a text, belongs there."""
    if len(tokens) <= most:
        return tokens
    end = special[1:] if tokens[:1] == special[:1] else special
    return [*tokens[: most - len(end)], *end]


OPERATIONS = (
    Operation("POST", "/api/embed", embed, "Texts as vectors.", EmbedRequest, problem=ollama_error, tag="ollama"),
    Operation("POST", "/api/embeddings", embeddings, "One text as a vector.", EmbeddingsRequest,
              problem=ollama_error, tag="ollama"),
)  # fmt: skip
