"""Which documents are held out: decided by a hash of each document's name, so that none is on both sides.

A set of few or lopsided documents is cut into sections first, because holding out a whole half of it would
leave too little to learn from; a section then counts as a document.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Collection
from itertools import pairwise

__all__ = ["HashSplit", "group_key", "section_characters", "sections"]

_SMALLEST_SECTION_CHARACTERS = 200
_LARGEST_SECTION_CHARACTERS = 4000
_SECTIONS_WANTED = 20

_HEADING = re.compile(r"#{1,6}[ \t]|[^\n]+\n([=\-~^\"'#*+`:.])\1{2,}[ \t]*(?:\n|\Z)")
# From the kindest cut to the harshest: empty lines, lines, sentences (also without spaces, as in Chinese).
_BOUNDARIES = (
    re.compile(r"(?<=\n)\n+"),
    re.compile(r"(?<=\n)"),
    re.compile(r"(?<=[.!?…])\s+|(?<=[。\uff01\uff1f])"),
)


def group_key(group: str, seed: int) -> int:
    """64 even bits from a group's name; another `seed` is another split."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{group}".encode(), digest_size=8).digest())


class HashSplit:
    """Holds out the groups with the lowest keys: `valid_share` of them, at least one, never all."""

    def __init__(self, keys: Collection[int], valid_share: float) -> None:
        if len(keys) < 2:
            raise ValueError("a split needs two groups")
        self.n_valid = min(max(1, round(valid_share * len(keys))), len(keys) - 1)
        self._highest = heapq.nsmallest(self.n_valid, keys)[-1]

    def is_valid(self, key: int) -> bool:
        """Whether the group with this key is held out."""
        return key <= self._highest


def section_characters(total_characters: int, n_documents: int, valid_share: float) -> int:
    """The size to cut long documents to, in characters, for a set of `total_characters`."""
    wanted = (
        int(total_characters * valid_share / 2) if n_documents > 1 else total_characters // _SECTIONS_WANTED
    )
    smallest = _SMALLEST_SECTION_CHARACTERS if n_documents > 1 else 1
    return max(smallest, min(wanted, _LARGEST_SECTION_CHARACTERS))


def sections(text: str, target_characters: int) -> list[str]:
    """`text` cut at headings and empty lines into sections of about `target_characters`, none empty.

    Longer paragraphs are cut at lines, then at sentences; a single sentence stays whole. The sections are
    slices of `text` that together hold all of it but the white space between them.
    """
    starts = [0]
    blocks = _block_starts(text, 0, len(text), target_characters, 0)
    for block in blocks[1:]:
        size = block - starts[-1]
        if size >= target_characters or (size >= target_characters / 2 and _HEADING.match(text, block)):
            starts.append(block)
    slices = (text[start:end].strip() for start, end in pairwise([*starts, len(text)]))
    return [section for section in slices if section]


def _block_starts(text: str, start: int, end: int, target: int, level: int) -> list[int]:
    """Where blocks begin in `text[start:end]`; those far over `target` are cut by the next boundary."""
    if level == len(_BOUNDARIES):
        return [start]
    found = (match.end() for match in _BOUNDARIES[level].finditer(text, start, end))
    places = [start, *(place for place in found if start < place < end), end]
    starts: list[int] = []
    for block, block_end in pairwise(places):
        small = block_end - block <= 2 * target
        starts += [block] if small else _block_starts(text, block, block_end, target, level + 1)
    return starts
