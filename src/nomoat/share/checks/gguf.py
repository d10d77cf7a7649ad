"""A strict reading of GGUF headers, and nothing behind the last tensor."""

from __future__ import annotations

import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

from nomoat.base.errors import BadFileError
from nomoat.formats.ggml_types import file_type_name
from nomoat.formats.gguf_parse import Header, parse_header
from nomoat.share.errors import RefusedError

__all__ = ["gguf_facts", "read_gguf_header"]

_FIRST_BYTES, _MOST_HEADER_BYTES = 1 << 20, 64 << 20
_MOST_TENSORS, _MOST_KEYS, _MOST_ELEMENTS = 100_000, 10_000, 1 << 21
_MOST_ALIGNMENT = 4096
_REMEDY = "convert the model again"


def read_gguf_header(path: str, reader: BinaryIO, size_bytes: int) -> Header:
    """The header, of at most 64 MiB. Raises `RefusedError`, naming the byte."""
    # How long a header is, only its end tells: so read a little, and more where it was not enough.
    length = _FIRST_BYTES
    _refuse_counts(path, reader.read(24))
    while True:
        reader.seek(0)
        content = reader.read(min(length, size_bytes))
        try:
            return parse_header(content, size_bytes, Path(path), most_elements=_MOST_ELEMENTS)
        except (BadFileError, struct.error) as error:
            if len(content) < size_bytes and length < _MOST_HEADER_BYTES:
                length *= 8
            elif isinstance(error, BadFileError):
                raise RefusedError(error.message, error.hint) from error
            else:
                raise RefusedError(f"{path}: header: it is longer than {_MOST_HEADER_BYTES:,} bytes, or cut short",
                                   "convert the model again") from error  # fmt: skip


def _refuse_counts(path: str, head: bytes) -> None:
    """Before anything is read by them: rows of tensors and keys take many times their size in memory."""
    if len(head) == 24:
        tensors, keys = struct.unpack("<QQ", head[8:])
        if tensors > _MOST_TENSORS or keys > _MOST_KEYS:
            raise RefusedError(
                f"{path}: byte 8: {tensors:,} tensors or {keys:,} keys belong to no model", _REMEDY
            )


def gguf_facts(path: str, header: Header, size_bytes: int) -> dict[str, Any]:
    """What the gallery shows of it. Raises `RefusedError` where something stands behind the last tensor."""
    ends = [header.data_offset + tensor.relative_offset + tensor.nbytes for tensor in header.tensors]
    end = max(ends, default=header.data_offset)
    # Padding may end the file, and no more than a tensor's: large alignments would leave room for anything.
    if header.alignment > _MOST_ALIGNMENT or size_bytes - end >= max(32, header.alignment):
        raise RefusedError(f"{path}: byte {end:,}: the tensors end here, the file has {size_bytes:,} bytes, aligned to "
                           f"{header.alignment:,}", f"{_REMEDY}: nothing may stand behind the tensors")  # fmt: skip
    kind = header.metadata.get("general.type", "model")
    architecture = header.metadata.get("general.architecture", "")
    return {
        "format": "gguf", "artefact": "adapter" if kind == "adapter" else "gguf",
        "architecture": architecture if isinstance(architecture, str) else "",
        "quantisation": _quantisation(header), "parameters": sum(tensor.n_elements for tensor in header.tensors),
        "tensors": len(header.tensors), "metadata": _few(header.metadata),
    }  # fmt: skip


def _quantisation(header: Header) -> str:
    elements: Counter[str] = Counter()
    for tensor in header.tensors:
        if len(tensor.shape) >= 2:
            elements[tensor.ggml_type.name] += tensor.n_elements
    if not elements:
        return "F32"
    majority = elements.most_common(1)[0][0]
    claimed = file_type_name(header.metadata.get("general.file_type")) or ""
    return claimed if claimed.startswith(majority) else majority


def _few(metadata: dict[str, Any]) -> dict[str, Any]:
    """What is worth keeping: short values of general keys, and numbers of the architecture."""
    return {
        key: value
        for key, value in list(metadata.items())[:200]
        if not key.startswith("tokenizer.")
        and isinstance(value, str | int | float)
        and len(str(value)) <= 300
        if not isinstance(value, float) or math.isfinite(value)
    }
