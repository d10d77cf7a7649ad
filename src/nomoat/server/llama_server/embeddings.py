"""`POST /embedding`, also called `/embeddings`."""

from __future__ import annotations

from typing import Any

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from nomoat.server.errors import BadRequest, llama_server_error
from nomoat.server.llama_server.prompts import prompts_of, tokens_of
from nomoat.server.llama_server.wire import EmbeddingRequest
from nomoat.server.models import Models
from nomoat.server.service import service_of
from nomoat.server.wire import Operation, json_response, while_connected

__all__ = ["OPERATIONS", "embed", "normalised"]

_MOST_INPUTS = 2048
_EUCLIDEAN = 2
_LARGEST = 32760.0  # what llama.cpp makes the largest component where it is asked for 16-bit values


async def embed(request: Request, body: EmbeddingRequest) -> Response:
    """One vector for each input."""
    service = service_of(request)
    work = to_thread.run_sync(_vectors, service.models, body, limiter=service.long_jobs)
    rows = await while_connected(request, work)
    return json_response([{"index": index, "embedding": [row.tolist()]} for index, row in enumerate(rows)])


def _vectors(models: Models, body: EmbeddingRequest) -> NDArray[np.float32]:
    field = "input" if body.input is not None else "content"
    given: Any = getattr(body, field)
    if given is None:
        raise BadRequest("give texts or token ids as 'input' or 'content'", "content")
    norm = _EUCLIDEAN if body.embd_normalize is None else body.embd_normalize
    if norm < 0:
        raise BadRequest("vectors have a norm here", "embd_normalize", "leave it out, or send 0 or more")
    target = models.resolve(body.model or "")
    if target.adapters:
        raise BadRequest("embeddings are made without adapters", "model", f"use {target.base}")
    inputs = [tokens_of(target.engine, each, field) for each in prompts_of(given, field, _MOST_INPUTS)]
    return normalised(target.engine.embed(inputs), norm)


def normalised(rows: NDArray[np.float32], norm: int) -> NDArray[np.float32]:
    """`rows` (N, D) with llama.cpp's norm: 0 for the largest component, 1, 2, and so on for the p-norm."""
    sizes = np.abs(rows.astype(np.float64))
    if norm == 0:
        lengths = sizes.max(axis=1, keepdims=True) / _LARGEST
    else:
        lengths = (sizes**norm).sum(axis=1, keepdims=True) ** (1 / norm)
    scaled: NDArray[np.float32] = (rows / np.where(lengths > 0, lengths, np.inf)).astype(np.float32)
    return scaled


OPERATIONS = tuple(
    Operation("POST", path, embed, "Texts as vectors.", EmbeddingRequest, problem=llama_server_error,
              answer=("array",), tag="llama-server")
    for path in ("/embedding", "/embeddings")
)  # fmt: skip
