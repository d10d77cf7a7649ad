"""`POST /v1/embeddings`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from nomoat.server.errors import BadRequest, openai_error_about
from nomoat.server.models import Models
from nomoat.server.service import service_of
from nomoat.server.wire import Body, Operation, json_response, while_connected

__all__ = ["OPERATIONS", "EmbeddingBody", "embeddings"]

_MOST_INPUTS = 2048


class EmbeddingBody(Body, kw_only=True):
    """Texts, or lists of token ids, to be turned into vectors."""

    input: str | list[int | str | list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


async def embeddings(request: Request, body: EmbeddingBody) -> Response:
    """One vector of length 1 for each input."""
    inputs = _inputs(body.input)
    service = service_of(request)
    work = to_thread.run_sync(_embed, service.models, body.model or "", inputs, limiter=service.long_jobs)
    name, rows, count = await while_connected(request, work)
    if body.dimensions not in (None, rows.shape[1]):
        raise BadRequest(f"this model's vectors have {rows.shape[1]} dimensions", "dimensions")
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(row, body.encoding_format)}
        for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": count, "total_tokens": count}
    return json_response({"object": "list", "model": name, "data": data, "usage": usage})


def _inputs(given: str | list[Any]) -> list[str | list[int]]:
    if isinstance(given, str):
        inputs: list[str | list[int]] = [given]
    elif given and all(isinstance(item, int) for item in given):
        inputs = [given]
    elif any(isinstance(item, int) for item in given):
        raise BadRequest("a list of inputs cannot have token ids beside texts or lists", "input")
    else:
        inputs = list(given)
    if not 1 <= len(inputs) <= _MOST_INPUTS or not all(inputs):
        raise BadRequest(f"give 1 to {_MOST_INPUTS} inputs, none of them empty", "input")
    return inputs


def _embed(
    models: Models, spec: str, inputs: Sequence[str | list[int]]
) -> tuple[str, NDArray[np.float32], int]:
    target = models.resolve(spec)
    if target.adapters:
        raise BadRequest("embeddings are made without adapters", "model", f"use {target.base}")
    engine = target.engine
    tokens = [engine.encode(item, add_special=True) if isinstance(item, str) else item for item in inputs]
    return target.name, engine.embed(tokens), sum(len(each) for each in tokens)


def _encoded(row: NDArray[np.float32], form: str | None) -> str | list[float]:
    if form == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return [float(value) for value in row]


OPERATIONS = (
    Operation("POST", "/v1/embeddings", embeddings, "Texts as vectors.", EmbeddingBody,
              problem=openai_error_about("input")),
)  # fmt: skip
