"""The place where each new file of a commit is looked into before it becomes visible."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from nomoat.share.errors import RefusedError
from nomoat.share.registry.blob_records import BlobRecords
from nomoat.share.registry.history import AddFile

__all__ = ["Inspection", "RefusedFileError", "inspect_files", "inspect_nothing"]

_MOST_TEMPLATES = 64  # each may take seconds, and some are made to take them

Inspection = Callable[[str, BinaryIO, int], dict[str, Any]]
"""`inspect(path, reader, size_bytes)`: facts of a file, or `RefusedError` where it may not be here.

Facts: `format` (gguf, safetensors, png, ...), `artefact` (gguf, adapter, image-lora, pipeline, safetensors or ""),
`architecture`, `quantisation`, `parameters`, `tensors` (how many), `metadata`, `components` (of a pipeline, each with
library and class) and `pipeline_tag`; none of them must be there.
"""


def inspect_nothing(path: str, reader: BinaryIO, size_bytes: int) -> dict[str, Any]:
    """The inspection of a registry that takes anything."""
    return {}


class RefusedFileError(RefusedError):
    """A file may not be here; `digest` says which."""

    def __init__(self, error: RefusedError, digest: str) -> None:
        super().__init__(error.message, error.hint)
        self.digest = digest


def inspect_files(
    inspection: Inspection, blobs: BlobRecords, files: Sequence[AddFile], contents: Mapping[str, bytes]
) -> dict[str, dict[str, Any]]:
    """What was found in each file, by digest. Raises `RefusedFileError` for the first that may not be here.

    `contents` are those that are not stored yet, by digest. A blob that was seen is seen again: under another name it
    is another claim.
    """
    found: dict[str, dict[str, Any]] = {}
    templates: set[str] = set()
    for file in files:
        content = contents.get(file.digest)
        opened: Any = io.BytesIO(content) if content is not None else blobs.open(file.digest)
        try:
            with opened as reader:
                facts = inspection(file.path, reader, file.size_bytes)
        except RefusedError as error:
            raise RefusedFileError(error, file.digest) from error
        if facts:
            found[file.digest] = facts
        if template := facts.get("chat_template"):
            templates.add(template["sha256"])
        if len(templates) > _MOST_TEMPLATES:
            problem = f"{file.path}: more than {_MOST_TEMPLATES} chat templates at once"
            raise RefusedFileError(RefusedError(problem, "make several commits"), file.digest)
    return found
