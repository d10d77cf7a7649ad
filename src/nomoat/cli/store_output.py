"""How a stored model looks: as JSON for scripts, as words and sizes for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from nomoat.store.records import StoredModel

__all__ = ["console", "count_words", "model_json", "size_words"]

_PIPE_WIDTH = 160  # characters; a pipe has no width of its own, and a digest must not be broken


def model_json(model: StoredModel) -> dict[str, Any]:
    """The stable form of `nomoat show NAME --json` and of each entry of `nomoat list --json`."""
    return {
        "name": model.name,
        "digest": model.digest,
        "architecture": model.architecture,
        "parameters": model.parameters,
        "quantisation": model.quantisation,
        "context_length": model.context_length,
        "licence": model.licence,
        "bytes": model.size_bytes,
        "parent_digest": model.parent_digest,
        "details": model.details,
        "path": str(model.path),
        "source": model.source,
    }


def console() -> Console:
    """Standard output for people: colours only on a terminal, and none with NO_COLOR."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def size_words(count_bytes: int) -> str:
    """`98.4 MB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count_bytes >= size:
            return f"{count_bytes / size:.1f} {unit}"
    return f"{count_bytes} bytes"


def count_words(count: int) -> str:
    """`135M` parameters."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)
