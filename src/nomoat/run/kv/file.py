"""One file of the KV cache on disk: the state of a sequence as llama.cpp hands it out, and the tokens it holds.

The layout, little-endian:

    magic           8 bytes   NOMOATKV
    version         u32       1; another number is left alone, it belongs to another nomoat
    scope_bytes     u32
    n_tokens        u32
    data_offset     u32       a multiple of 4096, so that the data can be mapped
    data_bytes      u64
    data_checksum   16 bytes  xxh3_128 of the data
    scope           UTF-8     what the state depends on besides the tokens: see `scope_key`
    tokens          i32[n_tokens]
    front_checksum  16 bytes  xxh3_128 of everything above
    (zeros)                   up to data_offset
    data            data_bytes

Two checksums, so that a folder is indexed without reading the data. They find damage, not forgery: the folder is
private. The data is not compressed: keys and values in F16 are nearly random, zlib and xz save less than 10 %.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from nomoat.base.errors import BadFileError
from nomoat.base.files import atomic_path

__all__ = [
    "SUFFIX",
    "Entry",
    "Tokens",
    "as_tokens",
    "is_whole",
    "map_data",
    "read_entry",
    "scope_key",
    "write_entry",
]

SUFFIX = ".kv"

_MAGIC, _VERSION = b"NOMOATKV", 1
_FRONT = struct.Struct("<8sIIIIQ16s")
_CHECKSUM_BYTES = 16
_ALIGNMENT = 4096
_MOST_SCOPE_BYTES, _MOST_TOKENS = (
    4096,
    1 << 24,
)  # beyond this a header is damaged: nothing is allocated for it
_READ_BYTES = 1 << 18  # fits the second-level cache: the checksum reads what has just been copied

Tokens = NDArray[np.int32]
"""Token ids, `(n_tokens,)`."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A stored state: everything of its file but the data. Equal to itself only."""

    path: Path
    scope: str
    tokens: Tokens
    data_offset: int
    data_bytes: int
    data_checksum: bytes

    @property
    def file_bytes(self) -> int:
        """Size of the whole file."""
        return self.data_offset + self.data_bytes


def scope_key(
    model_digest: str, adapters: Sequence[tuple[str, float]], context: Mapping[str, object], build: str
) -> str:
    """A name for everything that keys and values depend on besides the tokens.

    `adapters` are digests with scales, in the order in which they are added up; `context` the settings that decide
    the layout of the state (types of K and V, flash attention, RoPE); `build` the llama.cpp that wrote it.
    """
    parts = [model_digest, [[digest, float(scale)] for digest, scale in adapters], dict(context), build]
    return xxhash.xxh3_128_hexdigest(json.dumps(parts, sort_keys=True, default=str).encode())


def as_tokens(tokens: Sequence[int] | Tokens) -> Tokens:
    """`tokens` as an array."""
    return np.ascontiguousarray(tokens, dtype="<i4")


def write_entry(folder: Path, scope: str, tokens: Tokens, data: memoryview) -> Entry:
    """Write one state, in one step; returns its entry.

    The same scope and tokens always give the same name: two processes replace each other's file instead of keeping
    two. Raises `DiskFullError` and other errors of writing.
    """
    path = folder / _name(scope, tokens)
    checksum = xxhash.xxh3_128_digest(data)
    front = _front(scope, tokens, data.nbytes, checksum)
    # The lock says that this .part file has a living writer. It is released after the rename.
    with contextlib.ExitStack() as until_renamed, atomic_path(path) as temporary:
        handle = until_renamed.enter_context(open(temporary, "xb", buffering=0, opener=_private))
        fcntl.flock(handle, fcntl.LOCK_EX)
        for part in (memoryview(front), data):
            _write_all(handle.fileno(), part)
    return Entry(path, scope, tokens, len(front), data.nbytes, checksum)


def read_entry(handle: BinaryIO, path: Path) -> Entry | None:
    """Read the front of the open file `path` and check it; None for another version of the format.

    Raises `BadFileError` for a damaged file and `OSError` for one that cannot be read.
    """
    size = os.fstat(handle.fileno()).st_size
    head = handle.read(_FRONT.size)
    if len(head) < _FRONT.size or head[: len(_MAGIC)] != _MAGIC:
        raise BadFileError(path, "", "not a file of the KV cache")
    _, version, scope_bytes, n_tokens, data_offset, data_bytes, checksum = _FRONT.unpack(head)
    if version != _VERSION:
        return None
    if scope_bytes > _MOST_SCOPE_BYTES or n_tokens > _MOST_TOKENS or data_offset + data_bytes != size:
        raise BadFileError(path, "header", "sizes that the file does not have")
    rest = handle.read(scope_bytes + 4 * n_tokens)
    if handle.read(_CHECKSUM_BYTES) != xxhash.xxh3_128_digest(head + rest):
        raise BadFileError(path, "header", "the checksum does not match")
    scope = rest[:scope_bytes].decode(errors="replace")
    tokens = np.frombuffer(rest, "<i4", n_tokens, scope_bytes)
    if path.name != _name(scope, tokens):
        raise BadFileError(path, "", "named for other content")
    return Entry(path, scope, tokens, data_offset, data_bytes, checksum)


def is_whole(handle: BinaryIO, entry: Entry) -> bool:
    """Whether the data of the open file matches the checksum of `entry`.

    The file is read, not mapped: a damaged sector is an `OSError` then, and not a signal that ends the process.
    """
    checksum, buffer = xxhash.xxh3_128(), memoryview(bytearray(_READ_BYTES))
    offset = entry.data_offset
    while offset < entry.file_bytes:
        count = os.preadv(handle.fileno(), [buffer], offset)
        if count == 0:
            return False
        checksum.update(buffer[:count])
        offset += count
    return bool(checksum.digest() == entry.data_checksum)


def map_data(handle: BinaryIO, entry: Entry) -> memoryview:
    """The data as a view of the open file, read-only: pages of the system's file cache, without a copy."""
    populate = getattr(mmap, "MAP_POPULATE", 0)  # Linux: one call instead of a fault for every few pages
    mapping = mmap.mmap(handle.fileno(), entry.file_bytes, mmap.MAP_PRIVATE | populate, mmap.PROT_READ)
    return memoryview(mapping)[entry.data_offset :]


def _front(scope: str, tokens: Tokens, data_bytes: int, checksum: bytes) -> bytes:
    """Everything before the data, padded."""
    encoded = scope.encode()
    length = _FRONT.size + len(encoded) + tokens.nbytes + _CHECKSUM_BYTES
    offset = -(-length // _ALIGNMENT) * _ALIGNMENT
    head = _FRONT.pack(_MAGIC, _VERSION, len(encoded), len(tokens), offset, data_bytes, checksum)
    front = head + encoded + tokens.tobytes()
    return (front + xxhash.xxh3_128_digest(front)).ljust(offset, b"\0")


def _name(scope: str, tokens: Tokens) -> str:
    return xxhash.xxh3_128_hexdigest(scope.encode() + b"\0" + tokens.tobytes()) + SUFFIX


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_all(handle: int, content: memoryview) -> None:
    while content:
        content = content[os.write(handle, content) :]
