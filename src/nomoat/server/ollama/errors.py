"""Errors as Ollama's clients expect them."""

from __future__ import annotations

from typing import Any

from nomoat.base.errors import NomoatError

__all__ = ["ollama_error"]


def ollama_error(error: NomoatError) -> dict[str, Any]:
    """`{"error": text}`."""
    return {"error": f"{error.message} ({error.hint})" if error.hint else error.message}
