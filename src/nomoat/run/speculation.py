"""Speculation of one engine: the cost curve that all its sequences share, and the owner's history."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from nomoat.run.drafts.cost_curve import CostCurve
from nomoat.run.drafts.history import History
from nomoat.run.drafts.speculator import MOST_DRAFTED, Speculator
from nomoat.run.sequence import Sequence

__all__ = ["Speculation"]

_MOST_WAITING = 64  # ended sequences that wait for a quiet moment


class Speculation:
    """Gives sequences their speculators, and remembers what they came to."""

    def __init__(self, curve: CostCurve, history: History | None, steady: int | None, possible: bool) -> None:
        """`steady` as `steady_tokens` has it; `possible` is False for a memory that cannot take back wrong guesses."""
        self.curve, self._history, self._possible = curve, history, possible
        self._most = _most_guesses(steady) if possible else 0
        self._ended: deque[list[int]] = deque(maxlen=_MOST_WAITING)

    def learn_costs(self, seconds: Mapping[int, float]) -> None:
        """What was measured: seconds for `CURVE_POINTS`."""
        self.curve.adopt(seconds)

    def learn_steady(self, steady: int | None) -> None:
        """How many tokens are evaluated alike, as `steady_tokens` has it."""
        self._most = _most_guesses(steady) if self._possible else 0

    def begin(self, sequence: Sequence) -> None:
        """The sequence runs, for the first time or again."""
        if self._most and sequence.speculator is None and sequence.request.speculate:
            sequence.most_guesses = self._most
            sequence.speculator = Speculator(sequence.tokens, self.curve, self._history)

    def end(self, sequence: Sequence) -> None:
        """The sequence has ended."""
        if self._history is not None and sequence.request.reuse:
            self._ended.append(sequence.tokens)

    def remember_one(self) -> bool:
        """Add one ended sequence to the history; False where there is none. For quiet moments."""
        if self._history is None or not self._ended:
            return False
        self._history.remember(self._ended.popleft())
        return True


def _most_guesses(steady: int | None) -> int:
    """As many as leave every bit of the answer as it is, the token before them counted."""
    return MOST_DRAFTED if steady is None else min(MOST_DRAFTED, steady - 1)
