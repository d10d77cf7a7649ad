"""What the server tells of itself in llama-server's words, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams
from nomoat.server.errors import HttpProblem, llama_server_error
from nomoat.server.llama_server.lora import adapter_list, check_scales
from nomoat.server.llama_server.sampling import settings_of
from nomoat.server.models import Models
from nomoat.server.openai_common import FINGERPRINT
from nomoat.server.running import RunningAnswer
from nomoat.server.service import service_of
from nomoat.server.wire import Operation, json_response, read_json

__all__ = ["OPERATIONS", "adapters", "props", "set_adapters", "slots"]

_NO_RERANKING = (
    "models for reranking are not supported",
    "rank texts by the dot products of their vectors with that of the query: /v1/embeddings makes them",
)
_REFUSED = {
    "/props": ("settings of the whole server cannot be changed", "send them with each request"),
    "/slots/{id_slot}": (
        "slots cannot be saved, restored or erased", "prompts are kept on disk anyway, and come back by themselves",
    ),
    **dict.fromkeys(("/rerank", "/reranking", "/v1/rerank", "/v1/reranking"), _NO_RERANKING),
}  # fmt: skip
"""What is not there, each with the reason and what to do instead."""


async def props(request: Request) -> Response:
    """What is served and with which defaults (`?model=`, else the default model)."""
    models, name = service_of(request).models, request.query_params.get("model", "")
    return json_response(await to_thread.run_sync(_props, models, name))


async def slots(request: Request) -> Response:
    """What each of the answers at once is doing; none while the model is not in memory. Prompts are not told.

    `?fail_on_no_slot=1` makes an error of it where all are busy.
    """
    service, name = service_of(request), request.query_params.get("model", "")
    entry = await to_thread.run_sync(service.models.entry, name)
    if entry.engine is None or entry.engine.worker_pid is None:
        return json_response([])
    n_ctx = (await to_thread.run_sync(_loaded, entry.engine)).model.context_length
    busy = {answer.number: answer for answer in service.answers.running.of(entry.name)}
    if request.query_params.get("fail_on_no_slot") and len(busy) >= service.models.parallel:
        raise HttpProblem("no_slot", "no slot available", "send the request again when an answer has ended")
    return json_response(
        [_slot(number, n_ctx, busy.get(number)) for number in range(service.models.parallel)]
    )


async def adapters(request: Request) -> Response:
    """The adapters with the numbers by which `lora` names them."""
    return json_response(await to_thread.run_sync(adapter_list, service_of(request).models))


async def set_adapters(request: Request) -> Response:
    """Scales that count in every request: only 0 is accepted."""
    await to_thread.run_sync(check_scales, service_of(request).models, await read_json(request))
    return json_response({"success": True})


def _refusal(message: str, hint: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def refuse(request: Request) -> Response:
        raise HttpProblem("not_implemented", message, hint)

    return refuse


def _loaded(engine: Engine) -> Engine:
    return engine.load()


def _props(models: Models, name: str) -> dict[str, Any]:
    entry = models.entry(name)
    engine = models.engine(entry.name)
    defaults = {**settings_of(SamplingParams()), "stream": False, "lora": []}
    return {
        "default_generation_settings": {"params": defaults, "n_ctx": engine.model.context_length},
        "total_slots": models.parallel, "model_alias": entry.name, "model_path": str(engine.path),
        "model_ftype": entry.stored.quantisation,
        "modalities": {"vision": False, "video": False, "audio": False},
        "endpoint_slots": True, "endpoint_props": False, "endpoint_metrics": True, "ui": False,
        "chat_template": engine.template.source, "bos_token": engine.template.bos_token,
        "eos_token": engine.template.eos_token, "build_info": FINGERPRINT, "is_sleeping": False,
    }  # fmt: skip


def _slot(number: int, n_ctx: int, answer: RunningAnswer | None) -> dict[str, Any]:
    slot = {"id": number, "n_ctx": n_ctx, "speculative": True, "is_processing": answer is not None}
    if answer is None:
        return slot
    limit, made = answer.sampling.max_tokens, answer.made_tokens
    next_token = {
        "has_next_token": True,
        "n_remain": -1 if limit is None else limit - made,
        "n_decoded": made,
    }
    return {**slot, "n_prompt_tokens": len(answer.prompt_tokens), "params": settings_of(answer.sampling),
            "next_token": [next_token]}  # fmt: skip


OPERATIONS = (
    Operation("GET", "/props", props, "What is served, and its defaults.", problem=llama_server_error,
              tag="llama-server"),
    Operation("GET", "/slots", slots, "What is being answered.", problem=llama_server_error, answer=("array",),
              tag="llama-server"),
    Operation("GET", "/lora-adapters", adapters, "Adapters by number.", problem=llama_server_error,
              answer=("array",), tag="llama-server"),
    Operation("POST", "/lora-adapters", set_adapters, "Scales of 0 for all requests.", problem=llama_server_error,
              tag="llama-server"),
    *(
        Operation("POST", path, _refusal(*reason), "Refused, with what to do instead.", problem=llama_server_error,
                  tag="llama-server")
        for path, reason in _REFUSED.items()
    ),
)  # fmt: skip
