"""Which documents of a batch begin alike, so that the beginning need be computed only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

__all__ = ["Family", "families"]

_LEAST_TOKENS = 16  # below this, one more attention group costs more than the rows it saves


@dataclass(frozen=True)
class Family:
    """Documents whose first `prefix_length` tokens are the same; each has at least one token behind them."""

    members: tuple[int, ...]
    prefix_length: int


def families(documents: Sequence[np.ndarray]) -> list[Family]:
    """Every index into `documents` (token arrays (T,)) in one family, in order of their first members.

    Members agree in at least 16 tokens and share all that they have in common. Those that share with none form one
    family without a prefix, which comes first.
    """
    alike: dict[bytes, list[int]] = {}
    for index, tokens in enumerate(documents):
        if len(tokens) > _LEAST_TOKENS:
            alike.setdefault(tokens[:_LEAST_TOKENS].tobytes(), []).append(index)
    shared = [tuple(members) for members in alike.values() if len(members) > 1]
    sharing = {index for members in shared for index in members}
    alone = tuple(index for index in range(len(documents)) if index not in sharing)
    with_prefix = [Family(members, _common([documents[i] for i in members])) for members in shared]
    return [*([Family(alone, 0)] if alone else []), *with_prefix]


def _common(documents: Sequence[np.ndarray]) -> int:
    """Length of the beginning that all share, the last token of the shortest left out."""
    most = min(len(tokens) for tokens in documents) - 1
    for first, second in pairwise(documents):
        differing = np.flatnonzero(first[:most] != second[:most])
        most = int(differing[0]) if len(differing) else most
    return most
