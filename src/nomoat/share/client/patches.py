"""What of a file its older version on the hub has: found by the checksums that the hub keeps of each block.

Either nothing has moved, or everything behind the changed place has moved by the difference of the sizes: a header
grew. Both are tried on some blocks; all blocks are compared where the more promising one puts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from nomoat.share.blobs.patch import MOST_SMALL_BYTES, MOST_SMALL_ENTRIES, Copied, Literal
from nomoat.share.client.block_sums import BlockSums
from nomoat.share.client.outgoing import LocalFile

__all__ = ["LEAST_BYTES", "SmallSums", "changes"]

LEAST_BYTES = 4 << 20
"""Smaller files are sent whole."""
_SAMPLES = 32


SmallSums = Callable[[int, int], BlockSums | None]
"""Checksums of the small blocks in a part of the older file."""


def changes(file: LocalFile, older: BlockSums, small: SmallSums) -> list[Copied | Literal] | None:
    """The file as blocks of its older version and bytes of its own; None where no block is the same."""
    with file.open() as reader:
        shifts = {0, file.size_bytes - older.size_bytes}
        samples = range(0, len(older), max(1, len(older) // _SAMPLES))
        found = {shift: sum(_is_there(reader, older, block, shift) for block in samples) for shift in shifts}
        shift = max(found, key=lambda each: (found[each], each == 0))
        if not found[shift]:
            return None
        same = [block for block in range(len(older)) if _is_there(reader, older, block, shift)]
        entries = list(_entries(same, older, shift, file.size_bytes))
        return _refined(reader, entries, shift, older.size_bytes, small)


def _refined(
    reader: BinaryIO, entries: list[Copied | Literal], shift: int, older_bytes: int, small: SmallSums
) -> list[Copied | Literal]:
    """Of blocks that differ only what differs in them, where there are few such."""
    found: list[Copied | Literal] = []
    room = MOST_SMALL_ENTRIES
    for entry in entries:
        parts: list[Copied | Literal] = [entry]
        if isinstance(entry, Literal) and entry.size_bytes <= MOST_SMALL_BYTES and room > 0:
            parts = _small_parts(reader, entry, shift, older_bytes, small)
            room -= len(parts)
        found += parts if room >= 0 else [entry]
    return found


def _small_parts(
    reader: BinaryIO, entry: Literal, shift: int, older_bytes: int, small: SmallSums
) -> list[Copied | Literal]:
    start, end = max(0, entry.start - shift), min(entry.start + entry.size_bytes - shift, older_bytes)
    sums = small(start, end) if start < end else None
    if sums is None:
        return [entry]
    moved = start + shift
    same = [block for block in range(len(sums)) if _is_there(reader, sums, block, moved)]
    parts: list[Copied | Literal] = [Literal(entry.start, moved - entry.start)] if moved > entry.start else []
    last = entry.start + entry.size_bytes
    for part in _entries(same, sums, moved, last, moved):
        parts.append(part if isinstance(part, Literal) else Copied(part.offset + start, part.size_bytes))
    return parts


def _is_there(reader: BinaryIO, older: BlockSums, block: int, shift: int) -> bool:
    start, end = older.span(block)
    if start + shift < 0:
        return False
    reader.seek(start + shift)
    return older.fits(block, reader.read(end - start))


def _entries(
    same: list[int], older: BlockSums, shift: int, end_bytes: int, at: int = 0
) -> Iterator[Copied | Literal]:
    """Bytes `at` to `end_bytes` of the new file: neighbouring blocks as one copy; what lies between as it is."""
    place = 0
    while place < len(same):
        first = place
        while place + 1 < len(same) and same[place + 1] == same[place] + 1:
            place += 1
        start, end = older.span(same[first])[0], older.span(same[place])[1]
        if start + shift > at:
            yield Literal(at, start + shift - at)
        yield Copied(start, end - start)
        at, place = end + shift, place + 1
    if at < end_bytes:
        yield Literal(at, end_bytes - at)
