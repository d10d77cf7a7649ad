"""Float tensors of a safetensors file as numpy float32 (bfloat16 included, which numpy lacks), and the reverse."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from nomoat.base.errors import BadFileError, NotFoundError

__all__ = ["read_safetensors", "safetensors_bytes"]

_AGAIN = "train or download the adapter again"
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def read_safetensors(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """`(tensors, header metadata)` of a file that fits in memory.

    Raises `NotFoundError` where there is none, `BadFileError` where it is damaged, cut short, holds another
    type than floats, or values that are no numbers.
    """
    try:
        content = path.read_bytes()
        entries = deserialize(content)  # type: ignore[no-untyped-call]
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file", "name the folder that holds it") from error
    except SafetensorError as error:
        raise BadFileError(path, "header", f"is damaged or cut short ({error})", _AGAIN) from error
    tensors = {name: _floats(path, name, entry) for name, entry in entries}
    return tensors, _metadata(content)


def safetensors_bytes(tensors: dict[str, NDArray[np.float32]], metadata: dict[str, str]) -> bytes:
    """A file's content, the same for the same tensors and metadata: the library's own header has no fixed order."""
    content: bytes = save(tensors, metadata=metadata)
    (length,) = struct.unpack_from("<Q", content)
    ordered = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    ordered += b" " * (-len(ordered) % 8)
    return struct.pack("<Q", len(ordered)) + ordered + content[8 + length :]


def _floats(path: Path, name: str, entry: dict[str, object]) -> NDArray[np.float32]:
    dtype, raw = str(entry["dtype"]), bytes(entry["data"])  # type: ignore[call-overload]
    if dtype == "BF16":
        values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype in _DTYPES:
        values = np.frombuffer(raw, _DTYPES[dtype]).astype(np.float32)
    else:
        raise BadFileError(path, f"tensor {name!r}", f"type {dtype} is not used for adapters", _AGAIN)
    if not np.isfinite(values).all():
        raise BadFileError(path, f"tensor {name!r}", "holds values that are no numbers", _AGAIN)
    return values.reshape(entry["shape"])  # type: ignore[call-overload, no-any-return]


def _metadata(content: bytes) -> dict[str, str]:
    # The header was checked by `deserialize`; its own reader does not hand the metadata out.
    (length,) = struct.unpack_from("<Q", content)
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    return {str(key): str(value) for key, value in metadata.items()}
