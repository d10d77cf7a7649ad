"""Drafts for one sequence: what followed the last time its end occurred, in itself or in the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nomoat.run.drafts.history import History
from nomoat.run.drafts.suffix_index import SuffixIndex

__all__ = ["Draft", "Drafter"]

_FOLLOWED = 64  # tokens taken from the history at once


class Draft(NamedTuple):
    """Tokens that may come next, and how many tokens before them occurred together before (0: no draft)."""

    tokens: list[int]
    match_length: int
    copied: bool = False
    """Whether they stand in the prompt. An answer that copies goes on copying; its own phrases vary soon."""


class Drafter:
    """Follows one sequence. Microseconds for each token."""

    def __init__(self, prompt_tokens: Sequence[int], history: History | None = None) -> None:
        """Index the prompt (0.2 ms for a thousand tokens)."""
        self._own = SuffixIndex(prompt_tokens)
        self._prompt_length = len(prompt_tokens)
        self._history = history
        self._following: list[int] = []  # what followed in the history
        self._at, self._length = 0, 0
        self._asked = False

    @property
    def tokens(self) -> Sequence[int]:
        """Prompt and answer so far."""
        return self._own.tokens

    def accept(self, token: int) -> None:
        """The sequence goes on with this token."""
        self.extend((token,))

    def extend(self, tokens: Sequence[int]) -> None:
        """The sequence goes on with these tokens."""
        self._own.extend(tokens)
        for token in tokens:
            if self._at < len(self._following) and self._following[self._at] == token:
                self._at += 1
                self._length += 1
            else:
                self._following, self._at, self._length = [], 0, 0
        self._asked = False

    def propose(self, limit: int) -> Draft:
        """Up to `limit` tokens; the sequence's own text wins over the history where both match as well."""
        following, length = self._own.match()
        if self._history is not None:
            if self._at >= len(self._following) and not self._asked:
                self._following, self._length = self._history.find(self._own.tokens, _FOLLOWED)
                self._at, self._asked = 0, True
            if self._length > length and self._following:
                return Draft(self._following[self._at : self._at + limit], self._length)
        if not length:
            return Draft([], 0)
        tokens = self._own.tokens[following : following + limit]
        if len(tokens) < limit:  # the match ends where the text does: it repeats itself
            tokens = (tokens * (limit // len(tokens) + 1))[:limit]
        return Draft(tokens, length, following < self._prompt_length)
