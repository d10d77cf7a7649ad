"""One sequence's speculation, as a scheduler uses it: ask for a draft before a decode, report after it."""

from __future__ import annotations

from collections.abc import Sequence

from nomoat.run.drafts.cost_curve import CostCurve
from nomoat.run.drafts.drafter import Draft, Drafter
from nomoat.run.drafts.history import History
from nomoat.run.drafts.policy import SpeculationPolicy

__all__ = ["MOST_DRAFTED", "Speculator"]

MOST_DRAFTED = 31  # tokens: with the one before them as many as the cost curve is measured for
_TRUST = 4  # tokens since the last guess that was checked, for each one more that is made without asking


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
        self._plain = 0  # tokens since the last draft that was worth verifying
        self.draft_tokens = 0
        self.accepted_tokens = 0

    @property
    def patience(self) -> int:
        """After an empty `draft`: how many tokens may be decoded until it is asked again, 1 and more.

        One where the text repeats itself, though it did not pay to guess; else the more, the longer it went without.
        """
        return 1 if self._draft.match_length else 1 + self._plain // _TRUST

    def draft(self, limit: int = MOST_DRAFTED, others: int = 0) -> list[int]:
        """Tokens to verify behind the sequence's last one in the next decode; often none.

        `limit` is what the sequence and the batch have room for, `others` how many tokens of other sequences
        the decode holds already. Asked again before `accept`, it says the same at no cost.
        """
        if self._asked != (limit, others):
            self._asked = limit, others
            self._draft = self._drafter.propose(min(limit, MOST_DRAFTED))
            self._proposed = self._policy.draft_length(self._draft, others)
        return self._draft.tokens[: self._proposed]

    def accept(self, tokens: Sequence[int]) -> None:
        """The decode gave these tokens: the accepted beginning of the draft, then the model's own choice.

        Where nothing was to be verified, several tokens are those of as many decodes.
        """
        if self._proposed and self._asked is not None:
            accepted = min(len(tokens) - 1, self._proposed)
            self._policy.verified(self._draft, self._proposed, accepted, self._asked[1])
            self.draft_tokens += self._proposed
            self.accepted_tokens += accepted
            self._drafter.extend(tokens)
            self._plain = 0
        else:
            self._learn_from_plain(tokens)
            self._plain += len(tokens)
        self._draft, self._proposed, self._asked = Draft([], 0), 0, None

    def _learn_from_plain(self, tokens: Sequence[int]) -> None:
        draft = self._drafter.propose(1) if self._asked is None else self._draft
        for place, token in enumerate(tokens):
            if place:
                draft = self._drafter.propose(1)
            self._policy.decoded(draft, token)
            self._drafter.extend((token,))
