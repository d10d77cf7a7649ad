"""Which stored token list begins like a given one: a radix tree of the entries of one scope."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nomoat.run.kv.file import Entry, Tokens

__all__ = ["Match", "PrefixIndex", "common_tokens"]

_WORTH_TOKENS = 64  # an abandoned ending shorter than this is not worth a file of its own


def common_tokens(left: Tokens, right: Tokens) -> int:
    """Length of the common beginning of two token arrays."""
    length = min(len(left), len(right))
    differs = left[:length] != right[:length]
    first = int(differs.argmax()) if length else 0
    return first if length and differs[first] else length


class Match(NamedTuple):
    """What an index has for a token list."""

    entry: Entry
    n_tokens: int
    """How many tokens the list and the entry have in common from the beginning."""


class _Node:
    """A place where token lists part or end; `run` are the tokens that lead here from the parent."""

    __slots__ = ("children", "entry", "parent", "run", "shortest")

    def __init__(self, run: Tokens, parent: _Node | None) -> None:
        self.run, self.parent = run, parent
        self.children: dict[int, _Node] = {}
        self.entry: Entry | None = None
        self.shortest: Entry | None = None  # of this node and all below

    def offer(self, entry: Entry) -> None:
        """Hear of a new entry here or below."""
        if self.shortest is None or len(entry.tokens) < len(self.shortest.tokens):
            self.shortest = entry

    def refresh(self) -> None:
        """Find the shortest entry again from what the children know."""
        below = (child.shortest for child in self.children.values())
        known = [entry for entry in (self.entry, *below) if entry is not None]
        self.shortest = min(known, key=lambda entry: len(entry.tokens), default=None)


class PrefixIndex:
    """Entries by their tokens. Not for two threads at once."""

    def __init__(self) -> None:
        self._root = _Node(np.empty(0, np.int32), None)

    def __iter__(self) -> Iterator[Entry]:
        """All entries, in no particular order."""
        ahead = [self._root]
        while ahead:
            node = ahead.pop()
            ahead.extend(node.children.values())
            if node.entry is not None:
                yield node.entry

    def longest(
        self, tokens: Tokens, cuttable_tokens: float = math.inf, most_tokens: int | None = None
    ) -> Match | None:
        """The entry with the longest common beginning; the shortest of several, which is the quickest to load.

        Of entries with more than `cuttable_tokens` only those that `tokens` begins with in full: such states cannot be
        cut back. With `most_tokens` only entries that hold no more: for a memory with so much room.
        """
        best: Match | None = None
        node, depth, reached = self._root, 0, True
        while True:
            entry = node.shortest
            if entry is not None and len(entry.tokens) > cuttable_tokens:
                entry = node.entry if reached else None
            if entry is not None and depth and (most_tokens is None or len(entry.tokens) <= most_tokens):
                best = Match(entry, depth)
            child = node.children.get(int(tokens[depth])) if reached and depth < len(tokens) else None
            if child is None:
                return best
            common = common_tokens(child.run, tokens[depth:])
            node, depth, reached = child, depth + common, common == len(child.run)

    def add(self, entry: Entry) -> None:
        """Put an entry in; one with the same tokens is replaced."""
        node: _Node | None = self._node_for(entry.tokens)
        assert node is not None
        replaced, node.entry = node.entry, entry
        if replaced is not None:
            self._refresh_up(node)
            return
        while node is not None:  # not refreshed: thousands of entries may part at one node
            node.offer(entry)
            node = node.parent

    def remove(self, entry: Entry) -> None:
        """Take an entry out, if it is there."""
        path = self._path(entry.tokens)
        if not path or path[-1].entry is not entry:
            return
        node = path[-1]
        node.entry = None
        self._refresh_up(_join(node))

    def superseded_by(self, entry: Entry) -> list[Entry]:
        """Entries for which `entry`, which is in the index, stands in: earlier states of the same conversation.

        These are beginnings of it that nothing else continues, and entries that left its path for a short ending
        only, as happens when the last tokens of an answer are written differently in the next prompt.
        """
        path = self._path(entry.tokens)
        depth = len(entry.tokens)
        old: list[Entry] = []
        alone = True  # nothing but `entry` continues what stands here
        for node, on_path in zip(reversed(path[:-1]), reversed(path[1:]), strict=True):
            depth -= len(on_path.run)
            for child in node.children.values():
                if child is on_path:
                    continue
                if child.entry is not None and not child.children and _is_short(len(child.run), depth):
                    old.append(child.entry)
                else:
                    alone = False
            if node.entry is not None and alone:
                old.append(node.entry)
        return old

    def _path(self, tokens: Tokens) -> list[_Node]:
        """The nodes from the root to the one for exactly `tokens`; empty where there is none."""
        path, depth = [self._root], 0
        while depth < len(tokens):
            child = path[-1].children.get(int(tokens[depth]))
            if child is None or not np.array_equal(child.run, tokens[depth : depth + len(child.run)]):
                return []
            path.append(child)
            depth += len(child.run)
        return path

    def _node_for(self, tokens: Tokens) -> _Node:
        node, depth = self._root, 0
        while depth < len(tokens):
            first = int(tokens[depth])
            child = node.children.get(first)
            if child is None:
                child = node.children[first] = _Node(tokens[depth:], node)
            common = common_tokens(child.run, tokens[depth:])
            node = child if common == len(child.run) else _split(child, common)
            depth += common
        return node

    @staticmethod
    def _refresh_up(node: _Node | None) -> None:
        while node is not None:
            node.refresh()
            node = node.parent


def _is_short(tail: int, common: int) -> bool:
    return tail < _WORTH_TOKENS and 4 * tail <= common


def _split(child: _Node, at: int) -> _Node:
    """Put a node into the run that leads to `child`, after `at` tokens; returns it."""
    parent = child.parent
    assert parent is not None
    middle = _Node(child.run[:at], parent)
    middle.shortest = child.shortest
    parent.children[int(middle.run[0])] = middle
    child.run, child.parent = child.run[at:], middle
    middle.children[int(child.run[0])] = child
    return middle


def _join(node: _Node) -> _Node:
    """Remove a node that has become needless; returns the lowest one to refresh."""
    parent = node.parent
    if parent is None or node.entry is not None or len(node.children) > 1:
        return node
    if node.children:
        (child,) = node.children.values()
        child.run, child.parent = np.concatenate([node.run, child.run]), parent
        parent.children[int(child.run[0])] = child
        return parent
    del parent.children[int(node.run[0])]
    return _join(parent)
