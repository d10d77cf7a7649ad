"""The chunk index of a blob: each chunk's hash and length, in order. Any client of ranges can fetch deltas by it.

A file of it is `nmchunk1`, then 36 bytes for each chunk: the hash and its length, little-endian.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence

from nomoat.base.errors import NotFoundError
from nomoat.base.files import atomic_write, disk_errors
from nomoat.share.errors import RefusedError
from nomoat.share.names import check_digest
from nomoat.share.registry.registry import Registry
from nomoat.share.xet.chunking import MOST_BYTES, chunks_of
from nomoat.share.xet.hashes import Chunk

__all__ = ["index_of", "read_index", "write_index"]

_MAGIC = b"nmchunk1"
_ENTRY = struct.Struct("<32sI")


def index_of(registry: Registry, digest: str) -> list[Chunk]:
    """The chunks of a stored blob, computed from its verified bytes at first need and then kept.

    Kept in the registry's own folder wherever the blobs are: it is small, and can be made again at any time.
    Raises `NotFoundError`, `DamagedBlobError`, `DiskFullError`.
    """
    blob = registry.store.info(check_digest(digest))
    if blob is None:
        raise NotFoundError(f"{digest}: no such blob")
    name = digest.removeprefix("sha256:")
    path = registry.config.root / "chunks" / name[:2] / f"{name}.chunks"
    with contextlib.suppress(FileNotFoundError, RefusedError):
        return read_index(path.read_bytes(), blob.size_bytes)
    with registry.blobs.open(digest) as source:
        chunks = list(chunks_of(source))
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, write_index(chunks))
    return chunks


def write_index(chunks: Sequence[Chunk]) -> bytes:
    """The index as bytes."""
    return _MAGIC + b"".join(_ENTRY.pack(chunk.hash, chunk.size_bytes) for chunk in chunks)


def read_index(data: bytes, size_bytes: int) -> list[Chunk]:
    """The chunks of a blob of `size_bytes`. Raises `RefusedError` where the index cannot be one of it."""
    entries = data[len(_MAGIC) :]
    if not data.startswith(_MAGIC) or len(entries) % _ENTRY.size:
        raise RefusedError("this is no chunk index", "fetch the whole file instead")
    chunks = [Chunk(hash_, size) for hash_, size in _ENTRY.iter_unpack(entries)]
    if any(not 0 < chunk.size_bytes <= MOST_BYTES for chunk in chunks):
        raise RefusedError(
            "the chunk index has a chunk of no or too many bytes", "fetch the whole file instead"
        )
    if sum(chunk.size_bytes for chunk in chunks) != size_bytes:
        raise RefusedError(
            f"the chunk index is not one of {size_bytes:,} bytes", "fetch the whole file instead"
        )
    return chunks
