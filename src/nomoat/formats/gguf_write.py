"""Writing small GGUF files (adapters): metadata and float tensors. Not a converter of models."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nomoat.base.files import atomic_path
from nomoat.formats.ggml_types import GGMLType

__all__ = ["write_gguf"]

_VERSION, _ALIGNMENT = 3, 32
_FLOAT32, _BOOL, _STRING, _ARRAY = 6, 7, 8, 9
# GGUF integer type -> (struct code, least, most), tried in this order
_INTEGERS = {
    4: ("I", 0, (1 << 32) - 1), 5: ("i", -(1 << 31), (1 << 31) - 1),
    10: ("Q", 0, (1 << 64) - 1), 11: ("q", -(1 << 63), (1 << 63) - 1),
}  # fmt: skip
_TENSOR_TYPES = {np.dtype(np.float32): GGMLType.F32, np.dtype(np.float16): GGMLType.F16}


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write a GGUF v3 file in one step.

    `metadata` values are str, bool, int (the smallest of uint32, int32, uint64, int64 that holds it), float
    (float32) or a non-empty list of one of these; `tensors` are float32 or float16 arrays, rows last as in
    numpy (`(out, in)` becomes GGUF's `in, out`).
    """
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        header = b"GGUF" + struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))
        header += b"".join(_string(key) + _typed(value) for key, value in metadata.items())
        header += _directory(tensors)
        handle.write(header)
        _pad(handle)
        for array in tensors.values():
            handle.write(np.ascontiguousarray(array).tobytes())
            _pad(handle)


def _directory(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    parts: list[bytes] = []
    offset = 0
    for name, array in tensors.items():
        shape = array.shape[::-1]
        parts.append(_string(name) + struct.pack(f"<I{len(shape)}q", len(shape), *shape))
        parts.append(struct.pack("<IQ", _TENSOR_TYPES[array.dtype], offset))
        offset += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    return b"".join(parts)


def _string(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _typed(value: Any) -> bytes:
    if isinstance(value, list):
        kind = max(_kind(item) for item in value)
        body = b"".join(_packed(item, kind) for item in value)
        return struct.pack("<IIQ", _ARRAY, kind, len(value)) + body
    kind = _kind(value)
    return struct.pack("<I", kind) + _packed(value, kind)


def _kind(value: Any) -> int:
    if isinstance(value, str):
        return _STRING
    if isinstance(value, bool):
        return _BOOL
    if isinstance(value, float):
        return _FLOAT32
    if isinstance(value, int):
        return next(kind for kind, (_, least, most) in _INTEGERS.items() if least <= value <= most)
    raise TypeError(f"GGUF metadata cannot hold a {type(value).__name__}")


def _packed(value: Any, kind: int) -> bytes:
    if kind == _STRING:
        return _string(value)
    code = {_BOOL: "B", _FLOAT32: "f"}.get(kind) or _INTEGERS[kind][0]
    return struct.pack("<" + code, value)


def _pad(handle: BinaryIO) -> None:
    handle.write(b"\0" * (-handle.tell() % _ALIGNMENT))
