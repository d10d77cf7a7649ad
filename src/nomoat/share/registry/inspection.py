"""The place where each new file of a commit is looked into before it becomes visible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from nomoat.share.registry.blob_records import BlobRecords
from nomoat.share.registry.history import AddFile

__all__ = ["Inspection", "inspect_files", "inspect_nothing"]

Inspection = Callable[[str, BinaryIO, int], dict[str, Any]]
"""`inspect(path, reader, size_bytes)`: facts of a file, or `RefusedError` where it may not be here.

Facts: `format` (gguf, safetensors, png, ...), `artefact` (gguf, adapter, image-lora, pipeline, safetensors or ""),
`architecture`, `quantisation`, `parameters`, `tensors` (how many) and `metadata`; none of them must be there.
"""


def inspect_nothing(path: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    """The inspection of a registry that takes anything."""
    return {}


def inspect_files(inspection: Inspection, blobs: BlobRecords, files: list[AddFile]) -> None:
    """Look into each file and keep what was found. Raises `RefusedError` for the first that may not be here.

    A blob that was seen is seen again: under another name it is another claim.
    """
    for file in files:
        with blobs.store.open(file.digest) as reader:
            facts = inspection(file.path, reader, file.size_bytes)
        if facts:
            blobs.set_facts(file.digest, facts)
