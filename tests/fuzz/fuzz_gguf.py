"""GGUF files, as a hub looks into those that come in."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nomoat"]):
    from nomoat.share.checks.gguf import gguf_facts, read_gguf_header

import numpy as np
from harness import fuzz

from nomoat.base.settings import Settings
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_write import write_gguf
from nomoat.share.errors import RefusedError
from nomoat.store.embedded import find_embedded

_WHOLE_BYTES = 1 << 16


def read(data: bytes) -> None:
    """As it is, and with room for the tensors that it announces."""
    with contextlib.suppress(RefusedError):
        _facts(data)
    _facts(data.ljust(_WHOLE_BYTES, b"\0"))


def _facts(content: bytes) -> None:
    header = read_gguf_header("m.gguf", io.BytesIO(content), len(content))
    json.dumps(gguf_facts("m.gguf", header, len(content)), allow_nan=False).encode()


def seeds() -> Iterator[bytes]:
    """Headers with the embedded model's own keys and names: its long lists are cut, its weights left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        write_gguf(path, {"general.architecture": "llama", "general.alignment": 64}, {})
        yield path.read_bytes()
        embedded = find_embedded(Settings.from_environment())
        if embedded is not None:
            model = read_gguf(embedded)
            keys = {
                key: value[:8] if isinstance(value, list) else value for key, value in model.metadata.items()
            }
            write_gguf(path, keys, {name: np.ones((4, 32), np.float32) for name in list(model.tensors)[:4]})
            yield path.read_bytes()


if __name__ == "__main__":
    fuzz(read, seeds())
