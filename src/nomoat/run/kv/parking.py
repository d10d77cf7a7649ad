"""States of sequences that have ended, in this process's memory but not in llama.cpp's.

Every evaluation passes over all cells that are in use, whoever uses them: sixteen ended conversations of 230 tokens
made SmolLM2 15 % slower with prompts and 7 % with answers. A copy costs nothing until it is wanted, and then comes
back several hundred times faster than it was computed.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from nomoat.run.adapter_pool import AdapterSet
from nomoat.run.kv.prefix_tree import PrefixTree

__all__ = ["Parked", "Parking"]


class Parked(NamedTuple):
    """A copy of what a sequence held."""

    adapters: AdapterSet
    tokens: list[int]
    state: NDArray[Any]
    """As `Context.state` gives it: bytes, `(n,)`."""


class Parking:
    """Copies by how they begin; beyond `most_tokens` or `most_bytes` together, what was used longest ago goes."""

    def __init__(
        self, most_tokens: int, cuttable_tokens: float = math.inf, most_bytes: float = math.inf
    ) -> None:
        """With as many tokens as the context has cells, copies take as much memory again as those at most.

        A recurrent state takes the same memory for any number of tokens, which `most_bytes` is for. A copy of more than
        `cuttable_tokens`, as `Model` has it, serves only prompts that begin with all of it.
        """
        self._most_tokens, self._most_bytes = most_tokens, most_bytes
        self._cuttable_tokens = cuttable_tokens
        self._parked: OrderedDict[int, Parked] = OrderedDict()  # the longest unused first
        self._trees: dict[AdapterSet, PrefixTree] = {}
        self._numbers = itertools.count()
        self.n_tokens = self.n_bytes = 0

    def longest(self, adapters: AdapterSet, tokens: Sequence[int]) -> tuple[int, Parked] | None:
        """The copy that has most of the first `tokens`, the smallest of several, and how many it has."""
        found: tuple[int, int] | None = None
        for length, numbers in self._tree(adapters).along(tokens):
            serving = [number for number in numbers if self._serves(self._parked[number], length)]
            if serving:
                found = length, min(serving, key=lambda number: len(self._parked[number].tokens))
        if found is None:
            return None
        self._parked.move_to_end(found[1])
        return found[0], self._parked[found[1]]

    def holds(self, adapters: AdapterSet, tokens: Sequence[int]) -> bool:
        """Whether there is a copy of just these tokens, or of these and more where that serves as well."""
        found = self.longest(adapters, tokens)
        return found is not None and found[0] == len(tokens)

    def put(self, parked: Parked) -> None:
        """Keep a copy, in place of those that it goes on from."""
        tokens = parked.tokens
        if len(tokens) > self._most_tokens or parked.state.nbytes > self._most_bytes:
            return
        if len(tokens) <= self._cuttable_tokens:
            for number, other in list(self._parked.items()):
                if other.adapters == parked.adapters and tokens[: len(other.tokens)] == other.tokens:
                    self._remove(number)
        while (
            self.n_tokens + len(tokens) > self._most_tokens
            or self.n_bytes + parked.state.nbytes > self._most_bytes
        ):
            self._remove(next(iter(self._parked)))
        number = next(self._numbers)
        self._parked[number] = parked
        self._tree(parked.adapters).insert(tokens, number)
        self._count(parked, 1)

    def _serves(self, parked: Parked, length: int) -> bool:
        return len(parked.tokens) == length or len(parked.tokens) <= self._cuttable_tokens

    def _remove(self, number: int) -> None:
        parked = self._parked.pop(number)
        self._tree(parked.adapters).remove(parked.tokens, number)
        self._count(parked, -1)

    def _count(self, parked: Parked, sign: int) -> None:
        self.n_tokens += sign * len(parked.tokens)
        self.n_bytes += sign * parked.state.nbytes

    def _tree(self, adapters: AdapterSet) -> PrefixTree:
        return self._trees.setdefault(adapters, PrefixTree())
