"""Packing without contamination: documents laid end to end as flat tokens, attention kept within each.

Every GEMM sees (T, D) with no padding at all. Attention runs over groups of documents of like length; a shorter
one in a group is padded at its end, where causal attention never looks, so no mask is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nomoat.tune.tokenise import Example

__all__ = ["AttentionGroup", "PackedBatch", "pack"]

_LONGEST_PADDING = 1.25  # a group's longest document is at most this many times its shortest


@dataclass(frozen=True)
class AttentionGroup:
    """`documents` documents seen as (documents, length).

    `rows` (documents * length,) int64 gathers packed rows, padding pointing at row 0; `real` says which places
    are no padding. Both are None where the documents lie one after the other with equal lengths: `start` is enough.
    """

    documents: int
    length: int
    start: int
    rows: torch.Tensor | None
    real: torch.Tensor | None


@dataclass(frozen=True)
class PackedBatch:
    """T tokens of several documents, shortest document first."""

    tokens: torch.Tensor
    """(T,) int64."""
    positions: torch.Tensor
    """(T,) int32, restarting at 0 for every document."""
    groups: tuple[AttentionGroup, ...]
    target_rows: torch.Tensor
    """(S,) int64: rows whose next token is supervised."""
    targets: torch.Tensor
    """(S,) int64: that next token."""
    target_documents: torch.Tensor
    """(S,) int64: index into the examples given to `pack`."""

    @property
    def n_tokens(self) -> int:
        """Real tokens; padding does not exist."""
        return len(self.tokens)


def pack(examples: Sequence[Example]) -> PackedBatch:
    """Lay `examples` end to end, shortest first (ties in the order given)."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].tokens))
    lengths = [len(examples[i].tokens) for i in order]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rows, targets, documents = [], [], []
    for place, index in enumerate(order):
        supervised = np.flatnonzero(examples[index].supervised[1:]) + 1
        rows.append(starts[place] + supervised - 1)
        targets.append(examples[index].tokens[supervised])
        documents.append(np.full(len(supervised), index))
    return PackedBatch(
        tokens=_long(np.concatenate([examples[i].tokens for i in order])),
        positions=torch.from_numpy(np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)),
        groups=tuple(_groups(lengths, starts)),
        target_rows=_long(np.concatenate(rows)),
        targets=_long(np.concatenate(targets)),
        target_documents=_long(np.concatenate(documents)),
    )


def _long(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int64))


def _groups(lengths: list[int], starts: np.ndarray) -> list[AttentionGroup]:
    """Neighbours of like length; equal lengths need no gathering."""
    groups, first = [], 0
    while first < len(lengths):
        last = first
        while last + 1 < len(lengths) and lengths[last + 1] <= lengths[first] * _LONGEST_PADDING:
            last += 1
        groups.append(_group(lengths[first : last + 1], starts[first : last + 1]))
        first = last + 1
    return groups


def _group(lengths: list[int], starts: np.ndarray) -> AttentionGroup:
    longest = lengths[-1]
    if lengths[0] == longest:
        return AttentionGroup(len(lengths), longest, int(starts[0]), None, None)
    places = np.arange(longest)[None, :]
    real = places < np.asarray(lengths)[:, None]
    rows = np.where(real, np.asarray(starts)[:, None] + places, starts[0])
    return AttentionGroup(
        len(lengths), longest, int(starts[0]), _long(rows.ravel()), torch.from_numpy(real.ravel().copy())
    )
