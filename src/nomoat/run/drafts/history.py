"""What the owner's earlier conversations said, as tokens: a second place where drafts come from.

One array of tokens and one hash table from four tokens to where they ended last. What is known already is not
kept again, so a conversation that is sent anew with each question takes its room once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nomoat.run.drafts.journal import Journal

__all__ = ["History"]

_GRAM = 4  # tokens that are looked up together; fewer match everywhere in so much text
# Odd numbers of random bits: a sum of products with them spreads over the upper bits.
_FACTORS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
_WORD = 0xFFFFFFFFFFFFFFFF
_BREAK = -1  # between stretches of text: no token has this id
_LONG_ENOUGH = 32  # tokens: a longer match foretells no more
_MOST_TOKENS = 500_000  # 2 MB on disk, 6 MB in memory: about a thousand answers

Tokens = NDArray[np.int32]


class History:
    """Tokens of earlier conversations with one vocabulary. Not for use by two threads at once."""

    def __init__(self, journal: Journal | None = None, most_tokens: int = _MOST_TOKENS) -> None:
        """`journal` keeps it on disk, and is read at first use (5 ms when full). Above `most_tokens` the
        older half is forgotten.
        """
        self._journal, self._most = journal, most_tokens
        self._loaded = journal is None
        bits = max(8, (2 * most_tokens - 1).bit_length())
        self._shift = 64 - bits
        self._tokens: Tokens = np.zeros(most_tokens, np.int32)
        self._after: Tokens = np.zeros(1 << bits, np.int32)  # slot -> index after the four tokens; 0: empty
        self._count = 0

    def __len__(self) -> int:
        """How many tokens it holds, breaks between stretches included."""
        self._load()
        return self._count

    def find(self, tokens: Sequence[int], limit: int) -> tuple[list[int], int]:
        """`(continuation, match length)`: what followed the end of `tokens` when it occurred last.

        The continuation has up to `limit` tokens, fewer at the end of a stretch. `([], 0)` for no match.
        """
        if not self._loaded:
            self._load()
        if len(tokens) < _GRAM or not self._count:
            return [], 0
        a, b, c, d = tokens[-_GRAM:]
        key = a * _FACTORS[0] + b * _FACTORS[1] + c * _FACTORS[2] + d * _FACTORS[3]
        after = int(self._after[(key & _WORD) >> self._shift])
        before = self._tokens[max(0, after - _LONG_ENOUGH) : after].tolist()
        length = _common_end(before, tokens[-_LONG_ENOUGH:])
        if length < _GRAM:  # an empty slot, or another four tokens in the same one
            return [], 0
        following = self._tokens[after : min(self._count, after + limit)].tolist()
        if _BREAK in following:
            del following[following.index(_BREAK) :]
        return following, length

    def remember(self, tokens: Sequence[int]) -> None:
        """Keep those stretches of a finished conversation that are not known yet, here and on disk."""
        self._load()
        fresh = self._unknown(np.asarray(tokens, np.int32))
        if len(fresh):
            self._append(fresh)
            if self._journal is not None:
                self._journal.append(fresh)

    def _load(self) -> None:
        if not self._loaded and self._journal is not None:
            self._loaded = True
            self._append(self._journal.read(self._most))

    def _unknown(self, text: Tokens) -> Tokens:
        """The stretches of `text` with groups that are not known, each closed by a break."""
        groups = len(text) - _GRAM + 1
        if groups < 2:  # nothing would follow the only group
            return text[:0]
        after = self._after[self._slots(text)].astype(np.int64)
        known = after >= _GRAM
        for offset in range(_GRAM):
            known &= self._tokens[np.maximum(after - _GRAM + offset, 0)] == text[offset : offset + groups]
        wanted = np.zeros(len(text), np.bool_)
        for offset in range(_GRAM):
            wanted[offset : offset + groups] |= ~known
        wanted[:-1] |= wanted[1:]  # with the group that now has another continuation
        ends = wanted & ~np.append(wanted[1:], False)
        spaced = np.stack([text, np.full_like(text, _BREAK)], 1)  # a break may follow each token
        fresh: Tokens = spaced[np.stack([wanted, ends], 1)]
        return fresh

    def _append(self, fresh: Tokens) -> None:
        if self._count + len(fresh) > self._most:
            kept = self._tokens[max(0, self._count - self._most // 2) : self._count]
            fresh = np.concatenate([kept, fresh])[-self._most :]
            self._count = 0
            self._after[:] = 0
        start = max(0, self._count - _GRAM + 1)
        self._tokens[self._count : self._count + len(fresh)] = fresh
        self._count += len(fresh)
        text = self._tokens[start : self._count]
        if len(text) >= _GRAM:
            # Groups across a break are never asked for. Of equal groups the last assignment, the newest, stays.
            self._after[self._slots(text)] = np.arange(start + _GRAM, self._count + 1, dtype=np.int32)

    def _slots(self, text: Tokens) -> NDArray[np.uint64]:
        """The slot of each group of four tokens, `(len(text) - 3,)`."""
        words = text.astype(np.uint64)
        groups = len(text) - _GRAM + 1
        key = np.zeros(groups, np.uint64)
        for offset, factor in enumerate(_FACTORS):
            key += words[offset : offset + groups] * np.uint64(factor)
        return key >> np.uint64(self._shift)


def _common_end(left: list[int], right: Sequence[int]) -> int:
    length = 0
    for a, b in zip(reversed(left), reversed(right), strict=False):
        if a != b:
            break
        length += 1
    return length
