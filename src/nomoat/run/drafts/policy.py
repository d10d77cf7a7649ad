"""How many drafted tokens to verify: as many as are expected to pay, on this machine and in this text.

Verifying n tokens costs a measured time whether they are accepted or not. How often a draft is right is learnt
for each length of match, for copies of the prompt apart from phrases that come again, from verified drafts and,
at no cost, from those that were not verified: the next token tells whether the draft's first would have been
right. A purse bounds what may be lost: it gains with every drafted token that was right and with a share of
plain decoding, and pays for every verification.
"""

from __future__ import annotations

from collections.abc import Sequence

from nomoat.run.drafts.cost_curve import CostCurve
from nomoat.run.drafts.drafter import Draft

__all__ = ["SpeculationPolicy"]

# Match lengths up to these are counted together, and how likely the next token is right before anything is known.
_ENDS = (3, 4, 5, 6, 8, 12, 16, 24, 1 << 30)
_PRIORS = (0.45, 0.55, 0.62, 0.7, 0.76, 0.82, 0.87, 0.9, 0.93)
_COPIED_PRIORS = (0.6, 0.72, 0.82, 0.88, 0.92, 0.95, 0.95, 0.96, 0.97)
_BUCKET = tuple(next(index for index, end in enumerate(_ENDS) if length <= end) for length in range(33))
_PRIOR_WEIGHT = 4.0  # observations that a prior is worth
_MEMORY = 0.95  # how much an observation still counts after the next one of its kind
_LEAST_GAIN = 1.04  # expected speed-up below which nothing is drafted: estimates are not exact
_HOPELESS = 0.05  # chance of being accepted below which no further token is considered
# The purse, in decodes of one token.
# What may be lost before anything was gained, from so long a match on: little on a short one, which is often chance.
_OVERDRAFTS = ((6, 2.5), (0, 0.5))
_COPIED_OVERDRAFTS = ((8, 4.0), (5, 2.5), (0, 0.5))
_INCOME = 0.02  # what each plain decode allows to lose later: so much slower at worst
_MOST_SAVED = 12.0  # gains beyond are not staked again


class SpeculationPolicy:
    """One sequence's policy. `curve` is shared by all sequences of an engine."""

    def __init__(self, curve: CostCurve) -> None:
        self._curve = curve
        self._evidence = {False: _Evidence(_PRIORS), True: _Evidence(_COPIED_PRIORS)}
        self._purse = 0.0

    def draft_length(self, draft: Draft, others: int = 0) -> int:
        """How many of the drafted tokens to verify, 0 for plain decoding.

        `others` are the tokens of other sequences in the same decode: tokens per second of all count.
        """
        if not draft.tokens:
            return 0
        relative, chance_at = self._curve.relative, self._evidence[draft.copied].chance
        plain = relative(others + 1)
        most = self._purse + _overdraft(draft) + plain  # the costliest decode that the purse can pay
        best, best_rate = 0, _LEAST_GAIN * (others + 1) / plain
        expected, chance = float(others + 1), 1.0
        for n in range(1, len(draft.tokens) + 1):
            chance *= chance_at(draft.match_length + n - 1)
            cost = relative(others + 1 + n)
            if chance < _HOPELESS or cost > most:
                break
            expected += chance
            if expected > best_rate * cost:
                best, best_rate = n, expected / cost
        return best

    def verified(self, draft: Draft, proposed: int, accepted: int, others: int = 0) -> None:
        """Of the draft's first `proposed` tokens the first `accepted` were right."""
        plain = self._curve.relative(others + 1)
        cost = self._curve.relative(others + 1 + proposed) - plain
        # What the accepted tokens would have cost, each in a decode of its own beside the others.
        gain = accepted * plain / (others + 1)
        self._purse = min(self._purse + gain - cost, _MOST_SAVED)
        evidence = self._evidence[draft.copied]
        for index in range(min(accepted + 1, proposed)):
            evidence.learn(draft.match_length + index, index < accepted)

    def decoded(self, draft: Draft, token: int) -> None:
        """A plain decode gave `token`, where `draft`, empty or not, was not verified."""
        self._purse = min(self._purse + _INCOME, _MOST_SAVED)
        if draft.tokens:
            self._evidence[draft.copied].learn(draft.match_length, draft.tokens[0] == token)


class _Evidence:
    """How often tokens that follow a match are right, by its length."""

    def __init__(self, priors: Sequence[float]) -> None:
        self._priors = priors
        self._right = [_PRIOR_WEIGHT * prior for prior in priors]
        self._seen = [_PRIOR_WEIGHT] * len(priors)

    def chance(self, match_length: int) -> float:
        """That the next token is right."""
        bucket = _BUCKET[min(match_length, 32)]
        return self._right[bucket] / self._seen[bucket]

    def learn(self, match_length: int, right: bool) -> None:
        """The next token was right, or it was not."""
        bucket = _BUCKET[min(match_length, 32)]
        keep = (1 - _MEMORY) * _PRIOR_WEIGHT  # the prior does not fade: few observations decide little
        self._right[bucket] = self._right[bucket] * _MEMORY + keep * self._priors[bucket] + right
        self._seen[bucket] = self._seen[bucket] * _MEMORY + keep + 1.0


def _overdraft(draft: Draft) -> float:
    lengths = _COPIED_OVERDRAFTS if draft.copied else _OVERDRAFTS
    return next(decodes for least, decodes in lengths if draft.match_length >= least)
