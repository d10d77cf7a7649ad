"""Where Xet cuts a file: after a byte at which the gear hash of the last 64 bytes ends a chunk.

The gear hash is `h = 2h + table[byte]` modulo 2^64, so it knows the last 64 bytes only: the sum over a window of
2n bytes is the sum over its later n plus the one over its earlier n times 2^n. Six doublings give all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nomoat.share.xet.gear_table import GEAR_TABLE
from nomoat.share.xet.hashes import Chunk, chunk_hash

__all__ = ["LEAST_BYTES", "MOST_BYTES", "chunks_of"]

LEAST_BYTES, MOST_BYTES = 8 << 10, 128 << 10
_WINDOW_BYTES = 64
_SLICE_BYTES = 64 << 10  # what the processor's cache holds at eight bytes for each
_READ_BYTES = 8 << 20
_TABLE = np.array(GEAR_TABLE, dtype=np.uint64)
_BEFORE_CUT = np.uint64(0xFFFF << 48)  # these bits are all zero where a chunk of 64 KiB on average ends


def chunks_of(source: BinaryIO) -> Iterator[Chunk]:
    """The chunks of all that `source` still gives, in order; as hf-xet cuts it."""
    rest = b""
    while block := source.read(_READ_BYTES):
        rest += block
        view, start = memoryview(rest), 0
        cuts = _candidates(rest)
        while len(rest) - start >= MOST_BYTES:
            end = _end_of_chunk(cuts, start)
            yield Chunk(chunk_hash(view[start:end]), end - start)
            start = end
        rest = rest[start:]
    yield from _last_chunks(rest)


def _last_chunks(rest: bytes) -> Iterator[Chunk]:
    cuts, start = _candidates(rest), 0
    while start < len(rest):
        end = min(_end_of_chunk(cuts, start), len(rest))
        yield Chunk(chunk_hash(rest[start:end]), end - start)
        start = end


def _end_of_chunk(cuts: NDArray[np.int64], start: int) -> int:
    at = int(np.searchsorted(cuts, start + LEAST_BYTES))
    most = start + MOST_BYTES
    return min(int(cuts[at]), most) if at < len(cuts) else most


def _candidates(content: bytes) -> NDArray[np.int64]:
    """Offsets after which a chunk may end, ascending; none within the first window, where none can."""
    numbers = np.frombuffer(content, dtype=np.uint8)
    found = [np.empty(0, dtype=np.int64)]
    for start in range(0, max(0, len(numbers) - _WINDOW_BYTES + 1), _SLICE_BYTES):
        sums = _TABLE[numbers[start : start + _SLICE_BYTES + _WINDOW_BYTES - 1]]
        width = 1
        while width < _WINDOW_BYTES:
            sums = sums[width:] + (sums[:-width] << np.uint64(width))
            width *= 2
        found.append(np.flatnonzero((sums & _BEFORE_CUT) == 0) + start + _WINDOW_BYTES)
    return np.concatenate(found)
