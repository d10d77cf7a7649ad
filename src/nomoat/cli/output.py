"""What the command line prints: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

from nomoat.base.errors import NomoatError

__all__ = ["print_error", "print_interrupted", "print_json"]


def print_json(content: Any) -> None:
    """One JSON value on one line of standard output, at once."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_error(error: NomoatError, as_json: bool) -> None:
    """Two lines for a person: what happened, what to do. One object for a script."""
    if as_json:
        print_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
        return
    sys.stderr.write(f"error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint:  {error.hint}\n")


def print_interrupted(as_json: bool) -> None:
    """The user pressed Ctrl-C."""
    if as_json:
        print_json({"error": {"code": "interrupted", "message": "interrupted", "hint": ""}})
        return
    sys.stderr.write("\ninterrupted\n")
