"""Errors as HTTP: which status a `NomoatError` has, and OpenAI's error object for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from nomoat.base.errors import ContextOverflowError, InputError, NomoatError, NotFoundError, OverloadedError

__all__ = [
    "BadRequest",
    "HttpProblem",
    "PromptTooLong",
    "UnknownModel",
    "anthropic_error",
    "error_response",
    "headers_of",
    "llama_server_error",
    "ollama_error",
    "openai_error",
    "openai_error_about",
    "problem_of",
    "status_of",
    "writer_for",
]

_STATUS = {
    "bad_input": 400, "context_overflow": 400, "not_found": 404, "base_mismatch": 409, "bad_file": 409,
    "overloaded": 429, "not_enough_memory": 503, "disk_full": 507, "engine_failed": 503, "missing_extra": 501,
    "unauthorized": 401, "forbidden": 403, "too_large": 413, "method_not_allowed": 405, "not_implemented": 501,
    "request_timeout": 408, "time_limit": 503, "no_slot": 503,
}  # fmt: skip
_ANTHROPIC_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 408: "timeout_error",
    409: "conflict_error", 413: "request_too_large", 429: "rate_limit_error",
}  # fmt: skip
_OPENAI_TYPES = {403: "permission_error", 429: "requests"}  # what there are too many of
_OPENAI_CODES = {
    "context_overflow": "context_length_exceeded", "overloaded": "rate_limit_exceeded",
    "unauthorized": "invalid_api_key",
}  # fmt: skip
_LLAMA_SERVER_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "unavailable_error",
    501: "not_supported_error", 503: "unavailable_error",
}  # fmt: skip
_LLAMA_SERVER_PATHS = frozenset({
    "apply-template", "completion", "completions", "embedding", "embeddings", "infill", "lora-adapters", "props",
    "rerank", "reranking", "slots",
})  # fmt: skip


class BadRequest(InputError):
    """A field of a request cannot be used as it is. `param` names it."""

    def __init__(self, message: str, param: str | None = None, hint: str = "") -> None:
        super().__init__(message, hint)
        self.param = param


class PromptTooLong(ContextOverflowError):
    """A prompt does not fit, with the numbers by which llama-server's clients shorten it."""

    def __init__(self, message: str, hint: str, n_prompt_tokens: int, n_ctx: int) -> None:
        super().__init__(message, hint)
        self.n_prompt_tokens, self.n_ctx = n_prompt_tokens, n_ctx


class UnknownModel(NotFoundError):
    """A model or an adapter that this server does not have. `param` is the field of the request that names it."""

    def __init__(self, message: str, hint: str = "", param: str = "model") -> None:
        super().__init__(message, hint)
        self.param = param


class HttpProblem(NomoatError):
    """What only HTTP knows: no key, a foreign origin, a body that is too large. `code` gives the status."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


def problem_of(error: BaseException) -> NomoatError:
    """`error`, or for one that nobody foresaw a message that gives nothing away."""
    if isinstance(error, NomoatError):
        return error
    if isinstance(error, MemoryError):
        return HttpProblem("not_enough_memory", "memory ran out", "close other programs")
    return HttpProblem("internal", "a fault in nomoat; its log has the details", "please report it")


def status_of(error: NomoatError) -> int:
    """The HTTP status of an error; 500 only for what nobody foresaw."""
    return _STATUS.get(error.code, 500)


def headers_of(error: NomoatError) -> dict[str, str]:
    """Headers that belong to an error's answer."""
    if isinstance(error, OverloadedError):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_seconds)))}
    if error.code == "unauthorized":
        return {"WWW-Authenticate": "Bearer"}
    return {}


def openai_error(error: NomoatError) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`."""
    status = status_of(error)
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    param, code = getattr(error, "param", None), _OPENAI_CODES.get(error.code, error.code)
    if isinstance(error, UnknownModel) and param == "model":
        code = "model_not_found"
    return {"error": {"message": _text(error), "type": kind, "param": param, "code": code}}


def openai_error_about(prompt: str) -> Callable[[NomoatError], dict[str, Any]]:
    """`openai_error` for requests that have their prompt in the field `prompt`: it is named where it is too long."""

    def write(error: NomoatError) -> dict[str, Any]:
        content = openai_error(error)
        if isinstance(error, ContextOverflowError):
            content["error"]["param"] = prompt
        return content

    return write


def anthropic_error(error: NomoatError) -> dict[str, Any]:
    """`{"type": "error", "error": {"type", "message"}}`."""
    status = status_of(error)
    kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": _text(error)}}


def ollama_error(error: NomoatError) -> dict[str, Any]:
    """`{"error": text}`."""
    return {"error": _text(error)}


def llama_server_error(error: NomoatError) -> dict[str, Any]:
    """`{"error": {"code", "message", "type"}}`, where `code` is the status."""
    status = status_of(error)
    kind = _LLAMA_SERVER_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    if isinstance(error, ContextOverflowError):
        kind = "exceed_context_size_error"
    content: dict[str, Any] = {"code": status, "message": _text(error), "type": kind}
    if isinstance(error, PromptTooLong):
        content |= {"n_prompt_tokens": error.n_prompt_tokens, "n_ctx": error.n_ctx}
    return {"error": content}


def writer_for(
    request: Request, usual: Callable[[NomoatError], dict[str, Any]]
) -> Callable[[NomoatError], dict[str, Any]]:
    """How errors are written: as `usual`, but to Anthropic's client in its words, whatever it asks for."""
    return anthropic_error if "anthropic-version" in request.headers else usual


def error_response(request: Request, error: BaseException) -> Response:
    """The answer for an error that no operation has seen, in the protocol that the path belongs to."""
    problem, path = problem_of(error), request.url.path
    write = openai_error
    if path.startswith("/api/"):
        write = ollama_error
    elif path.startswith("/v1/messages"):
        write = anthropic_error
    elif path.removeprefix("/").partition("/")[0] in _LLAMA_SERVER_PATHS:
        write = llama_server_error
    return Response(
        msgspec.json.encode(writer_for(request, write)(problem)),
        status_of(problem),
        headers_of(problem),
        "application/json",
    )


def _text(error: NomoatError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
