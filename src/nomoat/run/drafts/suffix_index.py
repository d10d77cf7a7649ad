"""The longest end of a text that occurred in it before, kept up to date token by token.

A suffix automaton finds it, too, but needs a dictionary for each of its states, which is dear in Python. This is
the hash chain of LZ77 compressors: a dictionary from three tokens to where they ended last, and for each position a
link to the occurrence before. As long as a match goes on, nothing is searched at all.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["MIN_MATCH", "SuffixIndex"]

MIN_MATCH = 3  # tokens: two occur together too often to foretell anything
_TOKEN_BITS = 21  # vocabularies have up to 262,144 tokens today
_KEY_MASK = (1 << (_TOKEN_BITS * MIN_MATCH)) - 1
_MOST_CANDIDATES = 16  # occurrences looked at, newest first
_LONG_ENOUGH = 32  # tokens: a longer match foretells no more


class SuffixIndex:
    """Tokens of one sequence, and where their end occurred before."""

    def __init__(
        self, tokens: Iterable[int] = (), *, candidates: int = _MOST_CANDIDATES, enough: int = _LONG_ENOUGH
    ) -> None:
        """Index `tokens`. A search looks at `candidates` occurrences and stops at a match of `enough` tokens."""
        self.tokens: list[int] = []
        self._candidates, self._enough = candidates, enough
        self._last: dict[int, int] = {}  # three tokens, packed -> index of the last of them
        self._before: list[int] = []  # for each index: where the same three tokens ended before, or -1
        self._key = 0
        self._next = 0  # index of the token that the match foretells; 0 stands for no match
        self._length = 0
        self._searched = True
        self.extend(tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Add tokens at the end."""
        own, last, before = self.tokens, self._last, self._before
        key, index = self._key, len(own)
        following, length = self._next, self._length
        for token in tokens:
            if following and own[following] == token:
                following += 1
                length += 1
            else:
                following = 0
            own.append(token)
            key = ((key << _TOKEN_BITS) | token) & _KEY_MASK
            before.append(last.get(key, -1) if index >= MIN_MATCH - 1 else -1)
            if index >= MIN_MATCH - 1:
                last[key] = index
            index += 1
        self._key, self._next, self._length = key, following, length
        self._searched = bool(following)

    def match(self) -> tuple[int, int]:
        """`(next, length)`: the last `length` tokens occurred before, and `tokens[next]` followed them.

        The longest match among the occurrences looked at, the newest of equal ones; `(0, 0)` for none.
        """
        if not self._searched:
            self._search()
        return self._next, (self._length if self._next else 0)

    def _search(self) -> None:
        tokens, before, enough = self.tokens, self._before, self._enough
        end = len(tokens) - 1
        best, best_length = -1, 0
        candidate = before[end] if tokens else -1
        for _ in range(self._candidates):
            if candidate < 0:
                break
            length = MIN_MATCH
            most = min(enough, candidate + 1)
            while length < most and tokens[candidate - length] == tokens[end - length]:
                length += 1
            if length > best_length:
                best, best_length = candidate, length
                if length >= enough:
                    break
            candidate = before[candidate]
        self._next, self._length, self._searched = best + 1, best_length, True
