"""What a weights file holds, read from its header: tensors, metadata, chat template. The weights stay on the disk."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from nomoat.base.errors import BadFileError
from nomoat.formats.gguf_parse import Header, parse_header
from nomoat.server.hub.hub import Hub
from nomoat.share.registry.trees import Entry

__all__ = ["Tensor", "Weights", "is_weights", "read_weights"]

_FIRST_BYTES, _MOST_HEADER_BYTES = 1 << 20, 64 << 20
_LONGEST_VALUE = 400
_TEMPLATE_KEY = "tokenizer.chat_template"


@dataclass(frozen=True)
class Tensor:
    """A row of the tensor browser."""

    name: str
    shape: tuple[int, ...]
    kind: str
    n_bytes: int


@dataclass(frozen=True)
class Weights:
    """A weights file's header. `metadata` holds texts that fit a table."""

    format: str
    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]
    chat_template: str = ""
    kinds: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_parameters(self) -> int:
        """Numbers in all tensors."""
        total = 0
        for tensor in self.tensors:
            product = 1
            for extent in tensor.shape:
                product *= extent
            total += product
        return total


def is_weights(path: str) -> bool:
    """Whether a file's name says that its tensors can be listed."""
    return path.lower().endswith((".gguf", ".safetensors"))


def read_weights(hub: Hub, entry: Entry) -> Weights:
    """The header of a GGUF or safetensors file. Raises `BadFileError`, `DamagedBlobError`, `NotFoundError`."""
    assert entry.digest is not None
    with hub.registry.store.open(entry.digest) as source:
        if entry.path.lower().endswith(".gguf"):
            return _gguf(source, entry)
        return _safetensors(source, entry)


def _gguf(source: BinaryIO, entry: Entry) -> Weights:
    header = _gguf_header(source, entry)
    metadata = {key: _shown(value) for key, value in header.metadata.items() if key != _TEMPLATE_KEY}
    tensors = tuple(Tensor(t.name, tuple(t.shape), t.ggml_type.name, t.nbytes) for t in header.tensors)
    template = header.metadata.get(_TEMPLATE_KEY, "")
    return Weights("GGUF", tensors, metadata, template if isinstance(template, str) else "", _kinds(tensors))


def _gguf_header(source: BinaryIO, entry: Entry) -> Header:
    # How long a header is, only its end tells: so read a little, and more where it was not enough.
    length = _FIRST_BYTES
    while True:
        source.seek(0)
        content = source.read(min(length, entry.size_bytes))
        try:
            return parse_header(content, entry.size_bytes, Path(entry.path))
        except (BadFileError, struct.error) as error:
            if len(content) < entry.size_bytes and length < _MOST_HEADER_BYTES:
                length *= 8
            elif isinstance(error, BadFileError):
                raise
            else:
                raise BadFileError(entry.path, "header", "is cut short, or larger than pages show") from error


def _safetensors(source: BinaryIO, entry: Entry) -> Weights:
    try:
        (length,) = struct.unpack("<Q", source.read(8))
        if length > min(_MOST_HEADER_BYTES, entry.size_bytes - 8):
            raise BadFileError(entry.path, "header", "is larger than the file, or than pages show")
        header = json.loads(source.read(length))
        metadata = {
            str(key): _shown(value) for key, value in (header.pop("__metadata__", None) or {}).items()
        }
        tensors = tuple(_safe_tensor(name, row) for name, row in header.items())
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadFileError(entry.path, "header", f"cannot be read ({error})") from error
    return Weights("safetensors", tensors, metadata, "", _kinds(tensors))


def _safe_tensor(name: str, row: Any) -> Tensor:
    start, end = row["data_offsets"]
    return Tensor(
        name, tuple(int(extent) for extent in row["shape"]), str(row["dtype"]), int(end) - int(start)
    )


def _kinds(tensors: tuple[Tensor, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for tensor in tensors:
        found[tensor.kind] = found.get(tensor.kind, 0) + tensor.n_bytes
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _shown(value: Any) -> str:
    if isinstance(value, list):
        few = ", ".join(str(item) for item in value[:8])
        return f"{len(value):,} values: {few[:_LONGEST_VALUE]}" + (", ..." if len(value) > 8 else "")
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + " ..."
