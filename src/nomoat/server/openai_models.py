"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from nomoat.server.models import ModelEntry, Models
from nomoat.server.service import service_of
from nomoat.server.wire import Operation, json_response

__all__ = ["OPERATIONS", "get_model", "list_models"]


async def list_models(request: Request) -> Response:
    """The models on offer, and each with each adapter that this server was given for it."""
    rows = await to_thread.run_sync(_all, service_of(request).models)
    ends = {"first_id": rows[0]["id"] if rows else None, "last_id": rows[-1]["id"] if rows else None}
    return json_response({"object": "list", "data": rows, "has_more": False, **ends})


async def get_model(request: Request) -> Response:
    """One model, by any name under which it can be used."""
    models = service_of(request).models
    return json_response(await to_thread.run_sync(_one, models, request.path_params["model"]))


def _all(models: Models) -> list[dict[str, Any]]:
    rows = []
    for entry in models.entries():
        rows.append(_row(entry.name, entry))
        own = [adapter.name for adapter in models.adapters() if entry.name in adapter.bases]
        rows += [_row(f"{entry.name}+{name}", entry, [name]) for name in own]
    return rows


def _one(models: Models, name: str) -> dict[str, Any]:
    base, *parts = name.split("+")
    entry, refs = models.entry(base), models.adapter_refs(parts)
    return _row("+".join([entry.name, *parts]), entry, [str(ref.path) for ref in refs])


def _row(name: str, entry: ModelEntry, adapters: list[str] | None = None) -> dict[str, Any]:
    stored, created = entry.stored, datetime.fromtimestamp(entry.created, UTC)
    return {
        "id": name, "object": "model", "created": entry.created, "owned_by": "nomoat",
        "type": "model", "display_name": name, "created_at": created.isoformat(),  # Anthropic's names
        "digest": stored.digest, "architecture": stored.architecture, "quantisation": stored.quantisation,
        "parameters": stored.parameters, "size_bytes": stored.size_bytes, "adapters": adapters or [],
        "meta": _meta(entry),
    }  # fmt: skip


def _meta(entry: ModelEntry) -> dict[str, Any]:
    """What llama-server's clients look for: the context, above all, as soon as the model is in memory."""
    known = {"n_params": entry.stored.parameters, "ftype": entry.stored.quantisation}
    engine = entry.engine
    if engine is None or engine.worker_pid is None:
        return known
    model = engine.model
    trained = engine.gguf.hyperparameter("context_length", model.context_length)
    return {**known, "n_ctx": model.context_length, "n_ctx_train": trained, "n_vocab": model.n_vocab,
            "n_embd": model.n_embd}  # fmt: skip


OPERATIONS = (
    Operation("GET", "/v1/models", list_models, "The models on offer."),
    Operation("GET", "/v1/models/{model:path}", get_model, "One model."),
)
