"""What is installed and what runs: `/api/tags`, `/api/show`, `/api/ps`, `/api/version`; and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from nomoat import __version__
from nomoat.base.errors import NotFoundError
from nomoat.server.errors import BadRequest, ollama_error
from nomoat.server.models import ModelEntry, Models
from nomoat.server.ollama.translate import model_name
from nomoat.server.ollama.wire import ModelRequest
from nomoat.server.service import service_of
from nomoat.server.wire import Operation, json_response

__all__ = ["OPERATIONS", "ps", "pull", "show", "tags", "version"]

# Clients ask for the version to know what they may send: this is the Ollama whose API is spoken here.
_SPOKEN_VERSION = "0.13.0"
_MOST_LISTED = 100
_FOREVER = timedelta(days=36_500)
_REFUSED = {
    ("POST", "/api/push"): ("this server sends nothing anywhere", "share the file that `nomoat export` writes"),
    ("POST", "/api/create"): ("this server makes no models", "add one with: nomoat import FILE.gguf --name NAME"),
    ("POST", "/api/copy"): ("this server copies no models", "use: nomoat cp NAME NEW-NAME"),
    ("DELETE", "/api/delete"): ("this server deletes no models", "use: nomoat rm NAME"),
    ("POST", "/api/blobs/{digest}"): (
        "this server takes no files", "add a model with: nomoat import FILE.gguf --name NAME",
    ),
}  # fmt: skip


async def tags(request: Request) -> Response:
    """The models on offer, and each with each adapter that this server was given for it."""
    models = service_of(request).models
    return json_response({"models": await to_thread.run_sync(_tags, models)})


async def show(request: Request, body: ModelRequest) -> Response:
    """What one model is. Long lists of its metadata only come where `verbose` asks for them."""
    models = service_of(request).models
    return json_response(await to_thread.run_sync(_show, models, body.wanted, bool(body.verbose)))


async def ps(request: Request) -> Response:
    """The models that are in memory."""
    return json_response({"models": await to_thread.run_sync(_running, service_of(request).models)})


async def version(request: Request) -> Response:
    """The version of Ollama whose API is spoken here, and nomoat's own."""
    return json_response({"version": _SPOKEN_VERSION, "nomoat": __version__})


async def pull(request: Request, body: ModelRequest) -> Response:
    """Nothing to do where the model is here already; nothing is ever downloaded."""
    models = service_of(request).models
    try:
        await to_thread.run_sync(models.entry, _base(body.wanted))
    except NotFoundError as error:
        raise NotFoundError(f"{error.message}, and this server downloads nothing",
                            "add a model with: nomoat import FILE.gguf --name NAME") from error  # fmt: skip
    return json_response({"status": "success"})  # one line: right as a stream, too


def _refusal(message: str, hint: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def refuse(request: Request) -> Response:
        raise BadRequest(message, None, hint)

    return refuse


def _base(name: str) -> str:
    """The model's own name in `smollm2+me:latest`."""
    if not name:
        raise BadRequest("no model is named", "model", 'give its name as "model"')
    return model_name(name).partition("+")[0]


def _tagged(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _tags(models: Models) -> list[dict[str, Any]]:
    rows = []
    adapters = models.adapters()
    for entry in models.entries():
        own = [adapter.name for adapter in adapters if entry.name in adapter.bases]
        rows += [_row(name, entry) for name in (entry.name, *(f"{entry.name}+{name}" for name in own))]
    return rows


def _row(name: str, entry: ModelEntry) -> dict[str, Any]:
    stored = entry.stored
    return {
        "name": _tagged(name), "model": _tagged(name), "modified_at": _time(entry.created),
        "size": stored.size_bytes, "digest": stored.digest.removeprefix("sha256:"), "details": _details(entry),
    }  # fmt: skip


def _details(entry: ModelEntry) -> dict[str, Any]:
    stored = entry.stored
    return {
        "parent_model": "", "format": "gguf", "family": stored.architecture, "families": [stored.architecture],
        "parameter_size": _count(stored.parameters), "quantization_level": stored.quantisation,
    }  # fmt: skip


def _show(models: Models, name: str, verbose: bool) -> dict[str, Any]:
    entry = models.entry(_base(name))
    models.adapter_refs(model_name(name).split("+")[1:])
    engine = models.engine(entry.name)
    metadata = engine.gguf.metadata
    shown = {key: value for key, value in metadata.items() if verbose or _is_short(value)}
    return {
        "modelfile": f"# served by nomoat\nFROM {entry.name}\n", "parameters": "",
        "template": engine.template.source, "license": entry.stored.licence, "details": _details(entry),
        "model_info": {**shown, "general.parameter_count": entry.stored.parameters},
        "capabilities": ["completion", "tools", "embedding", *(["thinking"] if engine.template.thinks else [])],
        "modified_at": _time(entry.created),
    }  # fmt: skip


def _is_short(value: Any) -> bool:
    return not isinstance(value, list | tuple) and len(str(value)) <= _MOST_LISTED


def _running(models: Models) -> list[dict[str, Any]]:
    expires = (datetime.now(UTC) + _FOREVER).isoformat()
    return [
        {**_row(entry.name, entry), "size_vram": 0, "expires_at": expires,
         "context_length": entry.engine.model.context_length}
        for entry in models.entries() if entry.engine is not None and entry.engine.worker_pid is not None
    ]  # fmt: skip


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _count(parameters: int) -> str:
    """134515008 -> 134.52M, as Ollama writes it."""
    if parameters >= 1_000_000_000:
        return f"{parameters / 1e9:.1f}B"
    return f"{parameters / 1e6:.2f}M"


OPERATIONS = (
    Operation("GET", "/api/tags", tags, "The models on offer.", problem=ollama_error, tag="ollama"),
    Operation("POST", "/api/show", show, "What one model is.", ModelRequest, problem=ollama_error, tag="ollama"),
    Operation("GET", "/api/ps", ps, "The models in memory.", problem=ollama_error, tag="ollama"),
    Operation("GET", "/api/version", version, "The API's version.", problem=ollama_error, tag="ollama"),
    Operation("POST", "/api/pull", pull, "Succeeds where the model is here already.", ModelRequest,
              problem=ollama_error, tag="ollama"),
    *(
        Operation(method, path, _refusal(*reason), "Refused, with the command that does it.",
                  problem=ollama_error, tag="ollama")
        for (method, path), reason in _REFUSED.items()
    ),
)  # fmt: skip
