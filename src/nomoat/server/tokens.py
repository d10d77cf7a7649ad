"""`/tokenize`, `/detokenize` and `/tokenizer_info`, as vLLM and llama-server have them."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from nomoat.run.engine import Engine
from nomoat.server.errors import BadRequest
from nomoat.server.service import service_of
from nomoat.server.wire import Body, Operation, json_response

__all__ = ["OPERATIONS", "DetokenizeBody", "TokenizeBody", "detokenize", "tokenize", "tokenizer_info"]


class TokenizeBody(Body, kw_only=True):
    """A text, as `prompt` or `content`. `add_special_tokens` adds BOS where the model wants it.

    `with_pieces` wants the text of each token beside its id, its bytes where it is no whole text.
    """

    model: str | None = None
    prompt: str | None = None
    content: str | None = None
    add_special_tokens: bool | None = None
    add_special: bool | None = None
    parse_special: bool = True
    with_pieces: bool | None = None


class DetokenizeBody(Body, kw_only=True):
    """Token ids."""

    tokens: list[int]
    model: str | None = None


async def tokenize(request: Request, body: TokenizeBody) -> Response:
    """Token ids of a text."""
    text = body.prompt if body.prompt is not None else body.content
    if text is None:
        raise BadRequest("give the text as 'prompt' or 'content'", "prompt")
    special = body.add_special_tokens if body.add_special_tokens is not None else bool(body.add_special)

    def work() -> tuple[list[Any], int]:
        engine = service_of(request).models.engine(body.model or "")
        ids = engine.encode(text, special, body.parse_special)
        return _with_pieces(engine, ids) if body.with_pieces else ids, engine.model.context_length

    tokens, context_length = await to_thread.run_sync(work)
    return json_response({"tokens": tokens, "count": len(tokens), "max_model_len": context_length})


def _with_pieces(engine: Engine, ids: list[int]) -> list[dict[str, Any]]:
    return [
        {"id": token, "piece": _text_or_bytes(data)}
        for token, data in zip(ids, engine.pieces(ids), strict=True)
    ]


def _text_or_bytes(data: bytes) -> str | list[int]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


async def detokenize(request: Request, body: DetokenizeBody) -> Response:
    """The text of token ids, control tokens included."""
    models = service_of(request).models
    text = await to_thread.run_sync(lambda: models.engine(body.model or "").detokenize(body.tokens))
    return json_response({"prompt": text, "content": text})


async def tokenizer_info(request: Request) -> Response:
    """Special tokens and the chat template of the model (`?model=`, else the default)."""
    models = service_of(request).models
    name = request.query_params.get("model", "")
    return json_response(await to_thread.run_sync(lambda: _info(models.engine(name))))


def _info(engine: Engine) -> dict[str, Any]:
    model, template = engine.model, engine.template
    return {
        "tokenizer_class": engine.gguf.metadata.get("tokenizer.ggml.model"),
        "bos_token": template.bos_token or None,
        "eos_token": template.eos_token or None,
        "pad_token": template.eos_token or None,
        "bos_token_id": model.bos_token_id,
        "eos_token_id": model.eos_token_id,
        "add_bos_token": model.adds_bos,
        "vocab_size": model.n_vocab,
        "model_max_length": model.context_length,
        "chat_template": template.source,
    }


OPERATIONS = (
    Operation("POST", "/tokenize", tokenize, "Token ids of a text.", TokenizeBody, tag="nomoat"),
    Operation("POST", "/detokenize", detokenize, "The text of token ids.", DetokenizeBody, tag="nomoat"),
    Operation("GET", "/tokenizer_info", tokenizer_info, "Special tokens and chat template.", tag="nomoat"),
)
