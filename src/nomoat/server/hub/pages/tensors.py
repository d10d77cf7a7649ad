"""What a weights file holds, read from its header: tensors, metadata, chat template. The weights stay on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from nomoat.server.hub.hub import Hub
from nomoat.share.checks.gguf import read_gguf_header
from nomoat.share.checks.safetensors import read_header
from nomoat.share.registry.trees import Entry

__all__ = ["Tensor", "Weights", "is_weights", "read_weights"]

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
    """The header of a GGUF or safetensors file. Raises `RefusedError`, `DamagedBlobError`, `NotFoundError`."""
    assert entry.digest is not None
    with hub.registry.blobs.open(entry.digest) as source:
        if entry.path.lower().endswith(".gguf"):
            return _gguf(source, entry)
        return _safetensors(source, entry)


def _gguf(source: BinaryIO, entry: Entry) -> Weights:
    header = read_gguf_header(entry.path, source, entry.size_bytes)
    metadata = {key: _shown(value) for key, value in header.metadata.items() if key != _TEMPLATE_KEY}
    tensors = tuple(Tensor(t.name, tuple(t.shape), t.ggml_type.name, t.nbytes) for t in header.tensors)
    template = header.metadata.get(_TEMPLATE_KEY, "")
    return Weights("GGUF", tensors, metadata, template if isinstance(template, str) else "", _kinds(tensors))


def _safetensors(source: BinaryIO, entry: Entry) -> Weights:
    header = read_header(entry.path, source, entry.size_bytes)
    tensors = tuple(Tensor(t.name, t.shape, t.dtype, t.end - t.start) for t in header.tensors)
    metadata = {key: _shown(value) for key, value in header.metadata.items()}
    return Weights("safetensors", tensors, metadata, "", _kinds(tensors))


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
