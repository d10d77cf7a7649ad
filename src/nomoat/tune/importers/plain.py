"""Plain text and reStructuredText: the file as it is, one document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nomoat.tune.importers.document import Document, ImportTally
from nomoat.tune.importers.reading import decode, read_bytes

__all__ = ["SUFFIXES", "documents"]

SUFFIXES = (".txt", ".text", ".rst", ".rest")


def documents(path: Path, source: str, tally: ImportTally) -> Iterator[Document]:
    """The file as one document, with page breaks and runs of empty lines reduced to one empty line.

    A .txt or .text file that is not UTF-8 is read as Windows-1252 and counted. Raises BadFileError otherwise.
    """
    legacy = path.suffix.lower() in {".txt", ".text"}
    text, was_legacy = decode(path, read_bytes(path), legacy)
    text = re.sub(r"\n\s*\n", "\n\n", text.replace("\f", "\n\n")).strip("\n")
    if was_legacy:
        tally.legacy_encoded.append(source)
    if text.strip():
        tally.documents["plain"] += 1
        yield Document(source, "text", text)
