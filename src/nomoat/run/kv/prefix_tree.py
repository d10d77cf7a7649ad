"""Which sequences begin how: a radix tree over token lists, to find what need not be computed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

__all__ = ["PrefixTree", "common_prefix"]


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common beginning of two token lists."""
    most = min(len(left), len(right))
    if left[:most] == right[:most]:  # lists compare in C, and most of the time they are equal
        return most
    return next(index for index in range(most) if left[index] != right[index])


@dataclass
class _Node:
    """A run of tokens behind its parent's, and the holders whose token lists go at least that far."""

    tokens: list[int] = field(default_factory=list)
    children: dict[int, _Node] = field(default_factory=dict)
    holders: set[int] = field(default_factory=set)

    def split(self, at: int) -> None:
        """Keep the first `at` tokens and put the rest into a child."""
        below = _Node(self.tokens[at:], self.children, set(self.holders))
        self.tokens, self.children = self.tokens[:at], {below.tokens[0]: below}


class PrefixTree:
    """Token lists of holders (numbers), each holder's list at most once."""

    def __init__(self) -> None:
        self._root = _Node()

    def insert(self, tokens: Sequence[int], holder: int) -> None:
        """Say that `holder` holds `tokens`; a holder's list may grow by inserting the longer one."""
        node, rest = self._root, list(tokens)
        while rest:
            child = node.children.get(rest[0])
            if child is None:
                child = node.children[rest[0]] = _Node(rest)
            common = common_prefix(child.tokens, rest)
            if common < len(child.tokens):
                child.split(common)
            child.holders.add(holder)
            node, rest = child, rest[common:]

    def along(self, tokens: Sequence[int]) -> Iterator[tuple[int, frozenset[int]]]:
        """Places along `tokens`, the nearest first: how many of them some hold there, and who goes at least that far.

        Wherever a holder's list ends there is a place.
        """
        node, length, rest = self._root, 0, list(tokens)
        while rest and (child := node.children.get(rest[0])) is not None:
            common = common_prefix(child.tokens, rest)
            length += common
            yield length, frozenset(child.holders)
            if common < len(child.tokens):
                return
            node, rest = child, rest[common:]

    def count(self, holders: Set[int]) -> int:
        """Tokens that nobody but these `holders` holds, those that they share counted once."""
        nodes, total = list(self._root.children.values()), 0
        while nodes:
            node = nodes.pop()
            total += len(node.tokens) if node.holders <= holders else 0
            nodes += node.children.values()
        return total

    def remove(self, tokens: Sequence[int], holder: int) -> None:
        """Forget what `holder` holds; `tokens` is the list that it was inserted with."""
        node, rest = self._root, list(tokens)
        while rest and (child := node.children.get(rest[0])) is not None:
            child.holders.discard(holder)
            if not child.holders:  # nobody holds what lies below either
                del node.children[rest[0]]
                return
            node, rest = child, rest[len(child.tokens) :]
