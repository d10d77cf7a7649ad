"""`/tokenize`, `/detokenize` and `/tokenizer_info`, as vLLM and llama-server have them."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from nomoat.run.engine import Engine
from nomoat.server.errors import BadRequest
from nomoat.server.models import Models
from nomoat.server.service import service_of
from nomoat.server.wire import Body, Operation, json_response

__all__ = ["OPERATIONS", "DetokenizeBody", "TokenizeBody", "detokenize", "tokenize", "tokenizer_info"]

_MOST_TEXTS = 4096


class TokenizeBody(Body, kw_only=True):
    """A text, as `prompt` or `content`, or texts and token ids in a list.

    `add_special_tokens` adds BOS where the model wants it and a text is at the beginning. With `with_pieces` each token
    comes with its text.
    """

    model: str | None = None
    prompt: str | list[int | str] | None = None
    content: str | list[int | str] | None = None
    add_special_tokens: bool | None = None
    add_special: bool | None = None
    parse_special: bool = True
    with_pieces: bool | None = None

    @property
    def special(self) -> bool:
        """Whether BOS is added."""
        wanted = self.add_special if self.add_special_tokens is None else self.add_special_tokens
        return bool(wanted)


class DetokenizeBody(Body, kw_only=True):
    """Token ids."""

    tokens: list[int]
    model: str | None = None


async def tokenize(request: Request, body: TokenizeBody) -> Response:
    """Token ids of a text."""
    return json_response(await to_thread.run_sync(_tokenized, service_of(request).models, body))


def _tokenized(models: Models, body: TokenizeBody) -> dict[str, Any]:
    text = body.prompt if body.prompt is not None else body.content
    if text is None:
        raise BadRequest("give the text as 'prompt' or 'content'", "prompt")
    parts = [text] if isinstance(text, str) else text
    if sum(isinstance(part, str) for part in parts) > _MOST_TEXTS:
        raise BadRequest(f"more than {_MOST_TEXTS:,} texts at once", "content")
    engine = models.engine(body.model or "")
    ids: list[int] = []
    for place, part in enumerate(parts):
        special = body.special and place == 0
        ids += [part] if isinstance(part, int) else engine.encode(part, special, body.parse_special)
    tokens: list[Any] = ids
    if body.with_pieces:
        pieces = map(_piece, engine.token_bytes(ids))
        tokens = [{"id": token, "piece": piece} for token, piece in zip(ids, pieces, strict=True)]
    return {"tokens": tokens, "count": len(ids), "max_model_len": engine.model.context_length}


def _piece(data: bytes) -> str | list[int]:
    """A token's text; its bytes where it holds a part of a character."""
    try:
        return data.decode("utf-8")
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
