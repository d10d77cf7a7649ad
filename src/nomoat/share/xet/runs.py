"""Runs: the content of xorbs as they come, one behind the other in a file.

Clients send the xorbs of a large file in the order in which it has them. Then the run is the file: it is digested on
the way and need not be written again. A run outlives the hub's process, so that a shard may still come afterwards;
what was never made part of a file goes with garbage collection.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from nomoat.base.files import disk_errors
from nomoat.share.blobs.files import BlockSums
from nomoat.share.xet.xorb import Xorb

__all__ = ["RUNS_FOLDER", "InRun", "Run", "Runs"]

RUNS_FOLDER = "xorbs"
"""Inside a registry's folder."""
_MOST_OPEN = 64
_PIECES_AT_ONCE = 16  # about a megabyte: many small steps wait for the interpreter each time
_ENDING = ".run"


@dataclass(frozen=True)
class InRun:
    """Where the content of a xorb lies: in which run, from which byte on."""

    run: str
    offset: int
    size_bytes: int


class Run:
    """A file that xorbs are added to, until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.xorbs: list[bytes] = []
        self.size_bytes = 0
        self.lock, self.is_taken = threading.Lock(), False
        self._handle = path.open("xb", buffering=0)
        self._hasher, self._sums = hashlib.sha256(), BlockSums()

    @property
    def is_open(self) -> bool:
        """Whether xorbs may be added: nobody took or closed it, and garbage collection left it here."""
        return not self.is_taken and not self._handle.closed and self.path.exists()

    def append(self, hash: bytes, xorb: Xorb) -> InRun:
        """Add a xorb. Where that fails, the run is closed: its end is not sound."""
        start = self.size_bytes
        try:
            with disk_errors(self.path):
                for start_piece in range(0, len(xorb.pieces), _PIECES_AT_ONCE):
                    joined = b"".join(xorb.pieces[start_piece : start_piece + _PIECES_AT_ONCE])
                    self._write(memoryview(joined))
        except BaseException:
            self.close()
            raise
        self.xorbs.append(hash)
        return InRun(self.path.name, start, self.size_bytes - start)

    def flush(self) -> tuple[str, bytes]:
        """All of it is on the disk: its digest, and the checksums of its blocks. Nothing may be added afterwards."""
        with disk_errors(self.path):
            os.fsync(self._handle.fileno())
        return f"sha256:{self._hasher.hexdigest()}", self._sums.finish()

    def close(self) -> None:
        """Nothing is added any more; what is there can be read."""
        self._handle.close()

    def _write(self, view: memoryview) -> None:
        self._hasher.update(view)
        self._sums.update(view)
        self.size_bytes += len(view)
        while view:
            view = view[self._handle.write(view) :]


class Runs:
    """The runs in a folder. Each sender adds to one of its own; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int], Run] = {}

    def append(self, sender: tuple[int, int], hash: bytes, xorb: Xorb) -> InRun:
        """Add a xorb to the run of `sender` (user and repository). Raises `DiskFullError`."""
        while True:
            run = self._run_of(sender)
            with run.lock:
                if run.is_open:
                    return run.append(hash, xorb)
            self.take(sender, run)

    def take(self, sender: tuple[int, int], run: Run | None = None) -> Run | None:
        """The run of `sender` (only if it is `run`, where that is given), to which nobody else can add from now on.

        Its handle is still open; `Run.close` closes it.
        """
        with self._lock:
            found = self._open.get(sender)
            if found is None or (run is not None and found is not run):
                return None
            del self._open[sender]
        with found.lock:  # who adds just now comes to an end
            found.is_taken = True
        return found

    def path(self, name: str) -> Path:
        """Where a run is."""
        return self._folder / name

    def holds(self, place: InRun) -> bool:
        """Whether the file is still there, as long as it must be. Its content is verified when it is read."""
        with contextlib.suppress(FileNotFoundError):
            return self.path(place.run).stat().st_size >= place.offset + place.size_bytes
        return False

    def sweep(self, older_than_seconds: float) -> int:
        """Delete runs to which nothing was added for so long; returns how many."""
        count = 0
        for path in self._folder.glob(f"*{_ENDING}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > older_than_seconds:
                    path.unlink()
                    count += 1
        return count

    def _run_of(self, sender: tuple[int, int]) -> Run:
        with self._lock:
            found = self._open.get(sender)
            if found is None:
                with disk_errors(self._folder):
                    self._folder.mkdir(parents=True, exist_ok=True)
                    found = Run(self._folder / f"{secrets.token_hex(12)}{_ENDING}")
                self._open[sender] = found
                self._close_oldest()
            return found

    def _close_oldest(self) -> None:
        """Of senders that never came back."""
        while len(self._open) > _MOST_OPEN:
            oldest = self._open.pop(next(iter(self._open)))
            with oldest.lock:
                oldest.close()
