"""A file that arrives in pieces: `data`, filled in any order, and `journal`, which says what is in it.

Each line of the journal ends with a checksum of its piece, so that after a power cut, too, only pieces whose bytes are
on the disk count as there. Nothing is flushed until the file is whole.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import xxhash

from nomoat.base.errors import BadFileError
from nomoat.base.files import disk_errors
from nomoat.share.client.remote import RemoteFile

__all__ = ["PIECE_BYTES", "PartialFile", "PieceSum"]

PIECE_BYTES = 8 << 20


PieceSum = xxhash.xxh3_64
"""The checksum of a piece: it notices accidents, at the speed of memory. What is true, the sha256 says."""


class PartialFile:
    """`folder/data` and `folder/journal` of one remote file. Pieces may be written by several threads."""

    def __init__(self, folder: Path, file: RemoteFile) -> None:
        """Go on with what is in `folder`, or begin. Raises `DiskFullError`."""
        self.file = file
        self.path, self._journal_path = folder / "data", folder / "journal"
        self.count = max(1, -(-file.size_bytes // PIECE_BYTES))
        self._lock = threading.Lock()
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            noted = self._read_journal()
            self._data = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            os.ftruncate(self._data, file.size_bytes)  # sparse: it takes room as it fills
            self._done = {index for index, seen in noted.items() if self._sum(index) == seen}
            self._journal = os.open(self._journal_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if not self._journal_path.stat().st_size:
                self._append(json.dumps(self._header()))

    def close(self) -> None:
        """Close both files; they stay."""
        os.close(self._data)
        os.close(self._journal)

    def remove(self) -> None:
        """Delete both files and their folder."""
        self._journal_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self.path.parent.rmdir()

    def missing(self) -> list[int]:
        """Numbers of the pieces that are not there yet, in order."""
        with self._lock:
            return [index for index in range(self.count) if index not in self._done]

    def has(self, index: int) -> bool:
        """Whether a piece is there."""
        with self._lock:
            return index in self._done

    def span(self, index: int) -> tuple[int, int]:
        """First byte of a piece, and the one after its last."""
        start = index * PIECE_BYTES
        return start, min(start + PIECE_BYTES, self.file.size_bytes)

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into their place; they count once `finish` is called."""
        view = memoryview(data)
        with disk_errors(self.path):
            while view:
                written = os.pwrite(self._data, view, offset)
                view, offset = view[written:], offset + written

    def finish(self, index: int, checksum: str) -> None:
        """Every byte of a piece has been written."""
        with self._lock, disk_errors(self._journal_path):
            self._append(f"{index} {checksum}")
            self._done.add(index)

    def read(self, index: int) -> bytes:
        """The bytes of a piece."""
        start, end = self.span(index)
        content = os.pread(self._data, end - start, start)
        if len(content) != end - start:
            raise BadFileError(self.path, f"byte {start}", "was cut short by another program", "run it again")
        return content

    def flush(self) -> None:
        """Bring the data to the disk."""
        with disk_errors(self.path):
            os.fsync(self._data)

    def _append(self, line: str) -> None:
        os.write(self._journal, f"{line}\n".encode())

    def _header(self) -> dict[str, object]:
        return {"key": self.file.key, "size_bytes": self.file.size_bytes, "piece_bytes": PIECE_BYTES}

    def _read_journal(self) -> dict[int, str]:
        """Pieces and checksums; empty where the journal is of something else, or was never begun."""
        try:
            lines = self._journal_path.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return {}
        if lines[0] != json.dumps(self._header()):
            self._journal_path.unlink()
            return {}
        pairs = (line.split(" ") for line in lines[1:-1])  # the last line is empty, or was cut off
        return {int(pair[0]): pair[1] for pair in pairs if len(pair) == 2 and self._is_number(pair[0])}

    def _is_number(self, text: str) -> bool:
        return text.isdigit() and int(text) < self.count

    def _sum(self, index: int) -> str:
        return PieceSum(self.read(index)).hexdigest()
