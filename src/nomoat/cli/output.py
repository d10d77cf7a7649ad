"""What the command line prints: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from nomoat.base.errors import NomoatError

__all__ = ["print_error", "print_error_fields", "print_json"]


def print_json(content: Any) -> None:
    """One JSON value on one line of standard output, at once. Infinity and NaN, no JSON, become null."""
    sys.stdout.write(json.dumps(_finite(content), ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_error(error: NomoatError, as_json: bool) -> None:
    """Two lines for a person: what happened, what to do. One object for a script."""
    if as_json:
        print_error_fields(error.code, error.message, error.hint)
        return
    sys.stderr.write(f"error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint:  {error.hint}\n")


def print_error_fields(code: str, message: str, hint: str) -> None:
    """An error as the JSON object that scripts read."""
    print_json({"error": {"code": code, "message": message, "hint": hint}})


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
