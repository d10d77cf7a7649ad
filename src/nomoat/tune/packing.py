"""Packing without contamination: documents laid end to end as flat tokens, attention kept within each.

Every GEMM sees (T, D) with no padding at all. Attention runs over groups of documents of like length; a shorter
one in a group is padded at its end, where causal attention never looks, so no mask is needed.

Documents that begin alike (a chat template's system prompt) share that beginning: under causal attention its rows
are the same in each of them, so they are computed once, and each document's own rows look back at them. Losses and
gradients are those of the documents laid out in full; only the order of sums differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nomoat.tune.shared_prefix import Family, families
from nomoat.tune.tokenise import Example

__all__ = ["AttentionGroup", "PackedBatch", "pack"]

# A group's longest document is at most this many times its shortest, or this many tokens longer: another group
# costs more than a little padding in attention alone.
_LONGEST_PADDING = 1.25
_PADDING_TOKENS = 16


@dataclass(frozen=True)
class AttentionGroup:
    """`documents` documents seen as (documents, length), all behind the same `prefix_length` rows.

    `rows` (documents * length,) int64 gathers packed rows, padding pointing at the group's first row; `real` says
    which places are no padding. Both are None where the documents lie one after the other with equal lengths:
    `start` is enough. The prefix, where there is one, is rows `prefix_start` and following; it is a group of its
    own as well, and stands before this one.
    """

    documents: int
    length: int
    start: int
    rows: torch.Tensor | None
    real: torch.Tensor | None
    prefix_start: int = 0
    prefix_length: int = 0


@dataclass(frozen=True)
class PackedBatch:
    """T rows of tokens of several documents, shortest document first."""

    tokens: torch.Tensor
    """(T,) int64."""
    positions: torch.Tensor
    """(T,) int32, counted from 0 within every document."""
    groups: tuple[AttentionGroup, ...]
    target_rows: torch.Tensor
    """(S,) int64: rows whose next token is supervised; a row of a shared prefix may stand here several times."""
    targets: torch.Tensor
    """(S,) int64: that next token."""
    target_documents: torch.Tensor
    """(S,) int64: index into the examples given to `pack`."""
    n_tokens: int
    """Tokens of the documents, each document's in full; padding does not exist. Without shared prefixes this is T."""


def pack(examples: Sequence[Example]) -> PackedBatch:
    """Lay `examples` end to end, shortest first (ties in the order given), beginnings they share laid once."""
    layout = _Layout(examples)
    for family in families([example.tokens for example in examples]):
        layout.add(family)
    rows, targets, documents = [], [], []
    for index, document_rows in layout.document_rows.items():
        supervised = np.flatnonzero(examples[index].supervised[1:]) + 1
        rows.append(document_rows[supervised - 1])
        targets.append(examples[index].tokens[supervised])
        documents.append(np.full(len(supervised), index))
    return PackedBatch(
        tokens=_long(np.concatenate(layout.tokens)),
        positions=torch.from_numpy(np.concatenate(layout.positions).astype(np.int32)),
        groups=tuple(layout.groups),
        target_rows=_long(np.concatenate(rows)),
        targets=_long(np.concatenate(targets)),
        target_documents=_long(np.concatenate(documents)),
        n_tokens=sum(len(example.tokens) for example in examples),
    )


class _Layout:
    """Rows handed out so far, and where each document's tokens lie in them."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples, self._next_row = examples, 0
        self.tokens: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []
        self.groups: list[AttentionGroup] = []
        self.document_rows: dict[int, np.ndarray] = {}
        """Document -> the rows of its tokens, int64 (length,), a shared prefix's first; in the order laid."""

    def add(self, family: Family) -> None:
        """Lay the prefix of `family`, then each member's own tokens, shortest first."""
        shared, prefix_start = family.prefix_length, self._next_row
        if shared:
            self._lay(self._examples[family.members[0]].tokens[:shared], 0)
            self.groups.append(AttentionGroup(1, shared, prefix_start, None, None))
        prefix = np.arange(prefix_start, prefix_start + shared)
        members = sorted(family.members, key=lambda index: len(self._examples[index].tokens))
        lengths, starts = [], []
        for index in members:
            own = self._examples[index].tokens[shared:]
            starts.append(self._lay(own, shared))
            lengths.append(len(own))
            self.document_rows[index] = np.concatenate([prefix, np.arange(len(own)) + starts[-1]])
        self.groups += _groups(lengths, np.asarray(starts), prefix_start if shared else 0, shared)

    def _lay(self, tokens: np.ndarray, first_position: int) -> int:
        """Give `tokens` the next rows; returns the first of them."""
        start = self._next_row
        self.tokens.append(tokens)
        self.positions.append(np.arange(first_position, first_position + len(tokens)))
        self._next_row += len(tokens)
        return start


def _long(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64))


def _groups(
    lengths: list[int], starts: np.ndarray, prefix_start: int, prefix_length: int
) -> list[AttentionGroup]:
    """Neighbours of like length; equal lengths need no gathering."""
    groups, first = [], 0
    while first < len(lengths):
        most = max(lengths[first] * _LONGEST_PADDING, lengths[first] + _PADDING_TOKENS)
        last = first
        while last + 1 < len(lengths) and lengths[last + 1] <= most:
            last += 1
        rows, real = _gathering(lengths[first : last + 1], starts[first : last + 1])
        groups.append(
            AttentionGroup(
                last + 1 - first, lengths[last], int(starts[first]), rows, real, prefix_start, prefix_length
            )
        )
        first = last + 1
    return groups


def _gathering(
    lengths: list[int], starts: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor] | tuple[None, None]:
    longest = lengths[-1]
    if lengths[0] == longest:
        return None, None
    places = np.arange(longest)[None, :]
    real = places < np.asarray(lengths)[:, None]
    rows = np.where(real, starts[:, None] + places, starts[0])
    return _long(rows.ravel()), torch.from_numpy(real.ravel().copy())
