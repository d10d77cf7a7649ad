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

_ENDS = (3, 4, 5, 6, 8, 12, 16, 24, 1 << 30)  # match lengths up to these are counted together
_BUCKET = tuple(next(index for index, end in enumerate(_ENDS) if length <= end) for length in range(33))
_PRIOR_WEIGHT = 4.0  # observations that a prior is worth
_MEMORY = 0.95  # how much an observation still counts after the next one of its kind
_LEAST_GAIN = 1.04  # expected speed-up below which nothing is drafted: estimates are not exact
_HOPELESS = 0.05  # chance of being accepted below which no further token is considered
# The purse, in decodes of one token.
_INCOME = 0.02  # what each plain decode allows to lose later: so much slower at worst
_MOST_SAVED = 12.0  # gains beyond are not staked again
# For a phrase that comes again, and for a copy of the prompt: how likely the next token is right before anything is
# known, for each of `_ENDS`, and the overdraft from so long a match on: little on a short one, which is often chance.
_IN_PHRASES = (0.45, 0.55, 0.62, 0.7, 0.76, 0.82, 0.87, 0.9, 0.93), ((6, 2.5), (0, 0.5))
_IN_COPIES = (0.6, 0.72, 0.82, 0.88, 0.92, 0.95, 0.95, 0.96, 0.97), ((8, 4.0), (5, 2.5), (0, 0.5))


class SpeculationPolicy:
    """One sequence's policy. `curve` is shared by all sequences of an engine."""

    def __init__(self, curve: CostCurve) -> None:
        self._curve = curve
        self._trust = {False: _Trust(*_IN_PHRASES), True: _Trust(*_IN_COPIES)}
        self._purse = 0.0

    def draft_length(self, draft: Draft, others: int = 0) -> int:
        """How many of the drafted tokens to verify, 0 for plain decoding.

        `others` are the tokens of other sequences in the same decode: tokens per second of all count.
        """
        if not draft.tokens:
            return 0
        relative, trust = self._curve.relative, self._trust[draft.copied]
        plain = relative(others + 1)
        most = (
            self._purse + trust.overdraft(draft.match_length) + plain
        )  # the costliest decode that the purse can pay
        best, best_rate = 0, _LEAST_GAIN * (others + 1) / plain
        expected, chance = float(others + 1), 1.0
        for n in range(1, len(draft.tokens) + 1):
            chance *= trust.chance(draft.match_length + n - 1)
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
        trust = self._trust[draft.copied]
        for index in range(min(accepted + 1, proposed)):
            trust.learn(draft.match_length + index, index < accepted)

    def decoded(self, draft: Draft, token: int) -> None:
        """A plain decode gave `token`, where `draft`, empty or not, was not verified."""
        self._purse = min(self._purse + _INCOME, _MOST_SAVED)
        if draft.tokens:
            self._trust[draft.copied].learn(draft.match_length, draft.tokens[0] == token)


class _Trust:
    """How far one kind of draft is trusted: how often its tokens were right, and what may be lost on it at first."""

    def __init__(self, priors: Sequence[float], overdrafts: Sequence[tuple[int, float]]) -> None:
        self._priors, self._overdrafts = priors, overdrafts
        self._right = [_PRIOR_WEIGHT * prior for prior in priors]
        self._seen = [_PRIOR_WEIGHT] * len(priors)

    def overdraft(self, match_length: int) -> float:
        """Decodes that a match may lose before anything was gained."""
        return next(decodes for least, decodes in self._overdrafts if match_length >= least)

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
