"""`/v1/adapters`: list adapters, load one into the running server, forget it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from nomoat.server.models import AdapterEntry
from nomoat.server.service import service_of
from nomoat.server.wire import Body, Operation, json_response

__all__ = ["OPERATIONS", "AdapterBody", "add_adapter", "list_adapters", "remove_adapter"]


class AdapterBody(Body, kw_only=True):
    """An adapter on this machine's disk: a folder that `nomoat tune` or PEFT wrote, or a GGUF file."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    model: str | None = None


async def list_adapters(request: Request) -> Response:
    """Every adapter that a request can name."""
    entries = await to_thread.run_sync(service_of(request).models.adapters)
    return json_response({"object": "list", "data": [_row(entry) for entry in entries]})


async def add_adapter(request: Request, body: AdapterBody) -> Response:
    """Give a name to an adapter folder. Its files are checked against the model before it counts.

    Only this machine's own processes, or holders of an API key, get this far: see `guard`.
    """
    models = service_of(request).models
    entry = await to_thread.run_sync(
        models.add_adapter, body.name, Path(body.path).expanduser(), body.model or ""
    )
    return json_response(_row(entry), 201)


async def remove_adapter(request: Request) -> Response:
    """Forget the name; the files stay."""
    name = request.path_params["name"]
    await to_thread.run_sync(service_of(request).models.remove_adapter, name)
    return json_response({"id": name, "object": "adapter", "deleted": True})


def _row(entry: AdapterEntry) -> dict[str, Any]:
    return {"id": entry.name, "object": "adapter", "path": str(entry.path), "origin": entry.origin,
            "models": list(entry.bases)}  # fmt: skip


OPERATIONS = (
    Operation("GET", "/v1/adapters", list_adapters, "Adapters that requests can name.", tag="nomoat"),
    Operation(
        "POST",
        "/v1/adapters",
        add_adapter,
        "Load an adapter from a folder.",
        AdapterBody,
        status=201,
        tag="nomoat",
    ),
    Operation("DELETE", "/v1/adapters/{name}", remove_adapter, "Forget an adapter's name.", tag="nomoat"),
)
