"""A digest over a model's weights alone: the same for files that differ only in names, templates or other metadata."""

from __future__ import annotations

import hashlib
import json

from nomoat.formats.gguf_file import GGUFFile

__all__ = ["tensor_fingerprint"]

_AT_ONCE = 16 << 20


def tensor_fingerprint(gguf: GGUFFile) -> str:
    """`sha256:...` over every tensor's name, shape, type and bytes, in the order of names. Reads the whole file."""
    whole = hashlib.sha256()
    for name in sorted(gguf.tensors):
        tensor = gguf.tensors[name]
        whole.update(json.dumps([name, list(tensor.shape), tensor.ggml_type.name, tensor.nbytes]).encode())
        packed = gguf.raw(name)
        for start in range(0, len(packed), _AT_ONCE):
            whole.update(packed[start : start + _AT_ONCE].data)
    return f"sha256:{whole.hexdigest()}"
