"""How many drafted tokens to verify: as many as are expected to pay, on this machine and in this text.

Verifying n tokens costs a measured time whether they are accepted or not. How often a draft is right is
learnt for each length of match, from verified drafts and, at no cost, from those that were not verified: the
next token tells whether the draft's first would have been right. A purse bounds what may be lost: it gains
with every drafted token that was right and with a share of plain decoding, and pays for every verification.
"""

from __future__ import annotations

from nomoat.run.drafts.cost_curve import CostCurve

__all__ = ["SpeculationPolicy"]

# Match lengths up to these are counted together, and how likely the next token is right before anything is known.
_ENDS = (3, 4, 5, 6, 8, 12, 16, 24, 1 << 30)
_PRIORS = (0.45, 0.55, 0.62, 0.7, 0.76, 0.82, 0.87, 0.9, 0.93)
_BUCKET = tuple(next(index for index, end in enumerate(_ENDS) if length <= end) for length in range(33))
_PRIOR_WEIGHT = 4.0  # observations that a prior is worth
_MEMORY = 0.95  # how much an observation still counts after the next one of its kind
_LEAST_GAIN = 1.04  # expected speed-up below which nothing is drafted: estimates are not exact
_HOPELESS = 0.05  # chance of being accepted below which no further token is considered
# The purse, in decodes of one token.
# What may be lost before anything was gained: little on a short match, which is often chance, more on a long one.
_OVERDRAFT, _LONG_OVERDRAFT, _LONG_MATCH = 0.5, 2.5, 6
_INCOME = 0.008  # what each plain decode allows to lose later: so much slower at worst
_MOST_SAVED = 12.0  # gains beyond are not staked again


class SpeculationPolicy:
    """One sequence's policy. `curve` is shared by all sequences of an engine."""

    def __init__(self, curve: CostCurve) -> None:
        self._curve = curve
        self._right = [_PRIOR_WEIGHT * prior for prior in _PRIORS]
        self._seen = [_PRIOR_WEIGHT] * len(_PRIORS)
        self._purse = 0.0

    def draft_length(self, match_length: int, available: int, others: int = 0) -> int:
        """How many of `available` drafted tokens to verify, 0 for plain decoding.

        `others` are the tokens of other sequences in the same decode: tokens per second of all count.
        """
        if match_length <= 0 or available <= 0:
            return 0
        relative = self._curve.relative
        plain = relative(others + 1)
        overdraft = _LONG_OVERDRAFT if match_length >= _LONG_MATCH else _OVERDRAFT
        most = self._purse + overdraft + plain  # the costliest decode that the purse can pay
        best, best_rate = 0, _LEAST_GAIN * (others + 1) / plain
        expected, chance = float(others + 1), 1.0
        for n in range(1, available + 1):
            chance *= self._chance(match_length + n - 1)
            cost = relative(others + 1 + n)
            if chance < _HOPELESS or cost > most:
                break
            expected += chance
            if expected > best_rate * cost:
                best, best_rate = n, expected / cost
        return best

    def verified(self, proposed: int, accepted: int, match_length: int, others: int = 0) -> None:
        """Of `proposed` tokens the first `accepted` were right."""
        plain = self._curve.relative(others + 1)
        cost = self._curve.relative(others + 1 + proposed) - plain
        # What the accepted tokens would have cost, each in a decode of its own beside the others.
        gain = accepted * plain / (others + 1)
        self._purse = min(self._purse + gain - cost, _MOST_SAVED)
        for index in range(min(accepted + 1, proposed)):
            self._learn(match_length + index, index < accepted)

    def decoded(self, match_length: int, right: bool) -> None:
        """A plain decode: whether the first token of the draft that was not verified would have been right.

        `match_length` is 0 where there was no draft.
        """
        self._purse = min(self._purse + _INCOME, _MOST_SAVED)
        if match_length > 0:
            self._learn(match_length, right)

    def _chance(self, match_length: int) -> float:
        bucket = _BUCKET[min(match_length, 32)]
        return self._right[bucket] / self._seen[bucket]

    def _learn(self, match_length: int, right: bool) -> None:
        bucket = _BUCKET[min(match_length, 32)]
        prior = _PRIORS[bucket]
        keep = (1 - _MEMORY) * _PRIOR_WEIGHT  # the prior does not fade: few observations decide little
        self._right[bucket] = self._right[bucket] * _MEMORY + keep * prior + right
        self._seen[bucket] = self._seen[bucket] * _MEMORY + keep + 1.0
