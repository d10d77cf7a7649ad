"""Which importer reads a file: by its suffix, and for .json by its first record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from nomoat.tune.importers import jsonl, markdown, plain
from nomoat.tune.importers.document import Document, ImportTally

__all__ = ["READABLE", "Importer", "importer_for"]

Importer = Callable[[Path, str, ImportTally], Iterator[Document]]

READABLE = (*markdown.SUFFIXES, *plain.SUFFIXES, *jsonl.LINE_SUFFIXES, *jsonl.LIST_SUFFIXES)


def importer_for(path: Path) -> Importer | None:
    """The importer for a file of this name, None where no importer reads it."""
    suffix = path.suffix.lower()
    if suffix in markdown.SUFFIXES:
        return markdown.documents
    if suffix in plain.SUFFIXES:
        return plain.documents
    if suffix in jsonl.LINE_SUFFIXES or suffix in jsonl.LIST_SUFFIXES:
        return jsonl.documents
    return None
