"""One sequence's speculation, as a scheduler uses it: ask for a draft before a decode, report after it."""

from __future__ import annotations

from collections.abc import Sequence

from nomoat.run.drafts.cost_curve import CostCurve
from nomoat.run.drafts.drafter import Draft, Drafter
from nomoat.run.drafts.history import History
from nomoat.run.drafts.policy import SpeculationPolicy

__all__ = ["MOST_DRAFTED", "Speculator"]

MOST_DRAFTED = 31  # tokens: with the one before them as many as the cost curve is measured for


class Speculator:
    """Drafter and policy of one sequence, and what came of them. Not for use by two threads at once."""

    def __init__(
        self, prompt_tokens: Sequence[int], curve: CostCurve, history: History | None = None
    ) -> None:
        self._drafter = Drafter(prompt_tokens, history)
        self._policy = SpeculationPolicy(curve)
        self._draft = Draft([], 0)
        self._proposed = 0
        self._asked: tuple[int, int] | None = None  # `limit` and `others` that `_draft` is for
        self.draft_tokens = 0
        self.accepted_tokens = 0

    def draft(self, limit: int = MOST_DRAFTED, others: int = 0) -> list[int]:
        """Tokens to verify behind the sequence's last one in the next decode; often none.

        `limit` is what the sequence and the batch have room for, `others` how many tokens of other sequences
        the decode holds already. Asked again before `accept`, it says the same at no cost.
        """
        if self._asked != (limit, others):
            self._asked = limit, others
            self._draft = self._drafter.propose(min(limit, MOST_DRAFTED))
            tokens, length = self._draft
            self._proposed = self._policy.draft_length(length, len(tokens), others) if tokens else 0
        return self._draft.tokens[: self._proposed]

    def accept(self, tokens: Sequence[int]) -> None:
        """The decode gave these tokens: the accepted beginning of the draft, then the model's own choice."""
        if self._proposed and self._asked is not None:
            accepted = min(len(tokens) - 1, self._proposed)
            self._policy.verified(self._proposed, accepted, self._draft.match_length, self._asked[1])
            self.draft_tokens += self._proposed
            self.accepted_tokens += accepted
        else:
            drafted = self._draft.tokens
            self._policy.decoded(self._draft.match_length if drafted else 0, drafted[:1] == list(tokens[:1]))
        self._draft, self._proposed, self._asked = Draft([], 0), 0, None
        self._drafter.extend(tokens)
