"""What a place for blobs must do, whether files on a disk or objects in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import quote

__all__ = ["BLOCK_BYTES", "BlobInfo", "BlobStore", "Incoming", "attachment"]

BLOCK_BYTES = 1 << 20
"""Blobs are verified in blocks of this size, so that a range costs no more than the blocks that it touches."""


def attachment(filename: str) -> str:
    """The header Content-Disposition for a file to be saved: its name for today's browsers and for old ones."""
    plain = "".join(letter if letter.isascii() and letter not in '"\\%' else "_" for letter in filename)
    return f"attachment; filename*=UTF-8''{quote(filename)}; filename=\"{plain}\""


@dataclass(frozen=True)
class BlobInfo:
    """A stored blob. `modified_ms` is when its file was written, Unix time in milliseconds."""

    digest: str
    size_bytes: int
    modified_ms: int


class Incoming(Protocol):
    """Bytes on their way in. Nothing of them is visible until `finish`; leaving the `with` without it drops them."""

    @property
    def size_bytes(self) -> int:
        """Bytes so far."""

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes. Raises `DiskFullError`."""

    def finish(self, digest: str | None = None, size_bytes: int | None = None) -> BlobInfo:
        """Make the blob durable and visible. Raises `RefusedError` where it is not what was announced."""


class BlobStore(Protocol):
    """Blobs by digest (`sha256:...`, checked by the caller's `check_digest`). Safe to use from several threads."""

    @property
    def place(self) -> str:
        """Where it is, in an error's words."""

    def mark(self) -> str:
        """What `set_mark` left; empty where nothing did."""

    def set_mark(self, mark: str) -> None:
        """Say whose blobs these are."""

    def info(self, digest: str) -> BlobInfo | None:
        """The blob, or None where it is not there."""

    def open(self, digest: str) -> BinaryIO:
        """A seekable reader that verifies what it reads. Raises `NotFoundError`; reading raises `DamagedBlobError`."""

    def sums(self, digest: str) -> bytes:
        """BLAKE3 (32 bytes) of each block, one after the other. Raises `NotFoundError`."""

    def incoming(self) -> AbstractContextManager[Incoming]:
        """Begin to write a blob."""

    def adopt(self, path: Path, digest: str, sums: bytes) -> BlobInfo:
        """Keep a whole, flushed file whose digest and checksums were computed while it was written.

        `path` stays, and must never be written to again; remove it at any time.
        """

    def delete(self, digest: str) -> None:
        """Remove the blob if it is there."""

    def all(self) -> Iterator[BlobInfo]:
        """Every blob."""

    def check(self, digest: str) -> None:
        """Read all of it. Raises `DamagedBlobError` where a byte of it, or of its checksums, differs."""

    def renew_sums(self, digest: str) -> None:
        """Make its checksums anew. Raises `DamagedBlobError` where the blob itself is not what its digest says."""

    def local(self, digest: str) -> AbstractContextManager[Path]:
        """A file of this machine with all of it, verified as `check` does: to be read only, inside the block."""

    def url(self, digest: str, filename: str, seconds: int) -> str | None:
        """An address for a GET of the bytes within `seconds`, to be saved as `filename`; None: there is none."""

    def sweep_incoming(self, older_than_seconds: float = 86_400) -> int:
        """Delete what interrupted uploads left; returns how many."""
