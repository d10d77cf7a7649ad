"""Errors as Anthropic's clients expect them."""

from __future__ import annotations

from typing import Any

from nomoat.base.errors import NomoatError
from nomoat.server.errors import status_of

__all__ = ["anthropic_error"]

_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 409: "conflict_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error",
}  # fmt: skip


def anthropic_error(error: NomoatError) -> dict[str, Any]:
    """`{"type": "error", "error": {"type", "message"}}`."""
    status = status_of(error)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return {"type": "error", "error": {"type": kind, "message": message}}
