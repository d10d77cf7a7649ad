"""Checksums of a file's blocks, so that each MiB from a stranger can be judged by itself.

`/blobs/{digest}/blocks` sends them as they are kept: 32 bytes of BLAKE3 for each block of 1 MiB, in order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import blake3

from nomoat.base.errors import BadFileError, NotFoundError
from nomoat.base.files import atomic_write
from nomoat.base.progress import Progress
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.errors import DamagedBlobError
from nomoat.share.things import LocalThing, Thing

__all__ = ["SUM_BYTES", "Shelf", "block_count", "block_sum"]

SUM_BYTES = 32


def block_count(size_bytes: int) -> int:
    """How many blocks a file of this size has."""
    return -(-size_bytes // BLOCK_BYTES)


def block_sum(block: bytes | memoryview) -> bytes:
    """BLAKE3 of a block."""
    return blake3.blake3(block).digest()


class Shelf:
    """Things on offer: exactly their files, readable by digest, each block compared before it is handed out.

    Safe to use from several threads.
    """

    def __init__(self, things: Sequence[LocalThing], home: Path, progress: Progress) -> None:
        """Read each file that is new here once. Raises `BadFileError` where one is not what its digest says."""
        self.things: tuple[Thing, ...] = tuple(local.thing for local in things)
        self._sources: dict[str, Path] = {}
        self._sums: dict[str, bytes] = {}
        for local in things:
            for digest, path in local.sources.items():
                kept = home / "cache" / "blocks" / digest.removeprefix("sha256:")
                self._sources[digest] = path
                self._sums[digest] = _kept_sums(kept, path) or _sums(path, digest, local.thing.name, progress)
                if not _kept_sums(kept, path):
                    atomic_write(kept, self._sums[digest])

    def size_bytes(self, digest: str) -> int:
        """The size of a file. Raises `NotFoundError` where it is not on offer, or gone."""
        if digest not in self._sources:
            raise NotFoundError(f"{digest[:80]}: not on offer")
        try:
            return self._sources[digest].stat().st_size
        except FileNotFoundError as error:
            raise NotFoundError(f"{digest}: was removed meanwhile") from error

    def sums(self, digest: str) -> bytes:
        """The checksums of the file's blocks, or `NotFoundError`."""
        self.size_bytes(digest)
        return self._sums[digest]

    def read_block(self, digest: str, index: int) -> bytes:
        """A block of a file. Raises `DamagedBlobError` where it is no longer what it was, `NotFoundError`."""
        wanted = self.sums(digest)[index * SUM_BYTES : (index + 1) * SUM_BYTES]
        with self._sources[digest].open("rb", buffering=0) as handle:
            block = os.pread(handle.fileno(), BLOCK_BYTES, index * BLOCK_BYTES)
        if block_sum(block) != wanted:
            raise DamagedBlobError(f"{self._sources[digest]}: block {index}: differs from what was offered",
                                   "the file was changed, or the disk is failing")  # fmt: skip
        return block


def _kept_sums(kept: Path, path: Path) -> bytes:
    """Checksums from the cache; empty where they are not there or of another size."""
    sums = kept.read_bytes() if kept.is_file() else b""
    return sums if len(sums) == block_count(path.stat().st_size) * SUM_BYTES else b""


def _sums(path: Path, digest: str, name: str, progress: Progress) -> bytes:
    hasher, found = hashlib.sha256(), bytearray()
    progress.start(f"Reading {name} ({path.name})", path.stat().st_size / 1e6, "MB")
    with path.open("rb") as handle:
        while block := handle.read(BLOCK_BYTES):
            hasher.update(block)
            found += block_sum(block)
            progress.advance(len(block) / 1e6)
    progress.finish()
    if f"sha256:{hasher.hexdigest()}" != digest:
        raise BadFileError(path, "", f"is not {digest} any more", "import it again")
    return bytes(found)
