"""How sure a measured number is: Wilson's interval for shares, the bootstrap by document for the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Interval", "bits_per_byte_by_document", "bootstrap_mean", "paired_bootstrap", "wilson_interval"]

_Z_95 = 1.959963984540054
_CHUNK = 256  # resamples at once: bounds memory at 256 x documents


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; `low` and `high` are None where too little was measured to tell."""

    estimate: float
    low: float | None
    high: float | None
    n: int

    def excludes_zero(self) -> bool:
        """Whether the whole interval is on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def wilson_interval(successes: int, n: int) -> Interval:
    """The share `successes / n` with Wilson's 95 % score interval, which holds near 0 and 1 too."""
    if n == 0:
        return Interval(math.nan, None, None, 0)
    share, z2 = successes / n, _Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n)


def bootstrap_mean(
    values: ArrayLike, weights: ArrayLike | None = None, *, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """The weighted mean of `values` (N,), one for each document, with its percentile bootstrap interval.

    Documents are resampled whole, so that the interval speaks of new documents. Deterministic for a `seed`.
    """
    value, weight = _checked(values, weights)
    n = len(value)
    if n == 0:
        return Interval(math.nan, None, None, 0)
    estimate = float(np.average(value, weights=weight))
    if n < 2:
        return Interval(estimate, None, None, n)
    generator, means = np.random.default_rng(seed), []
    for start in range(0, n_resamples, _CHUNK):
        drawn = generator.integers(0, n, size=(min(_CHUNK, n_resamples - start), n))
        means.append((value * weight)[drawn].sum(axis=1) / weight[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(estimate, float(low), float(high), n)


def paired_bootstrap(
    before: ArrayLike,
    after: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The weighted mean of `after - before` (N,), document by document; negative is less loss after.

    Pairing takes out what makes documents hard or easy for both, so the interval is far narrower than those of
    the two means. For bits per byte, weigh by bytes: the estimate is then the difference of the two totals.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} values before, {second.shape} after")
    return bootstrap_mean(second - first, weights, n_resamples=n_resamples, seed=seed)


def bits_per_byte_by_document(
    document_ids: Sequence[str], nats: ArrayLike, n_bytes: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of loss in nats and of bytes, one for each example, as bits per byte and bytes for each document.

    Documents are in the order of their first example; those without a byte are left out.
    """
    places = {name: place for place, name in enumerate(dict.fromkeys(document_ids))}
    index = np.array([places[name] for name in document_ids], dtype=np.int64)
    bits = np.bincount(index, weights=np.asarray(nats, dtype=np.float64), minlength=len(places)) / math.log(2)
    total = np.bincount(index, weights=np.asarray(n_bytes, dtype=np.float64), minlength=len(places))
    kept = total > 0
    return bits[kept] / total[kept], np.asarray(total[kept], dtype=np.float64)


def _checked(values: ArrayLike, weights: ArrayLike | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    value = np.asarray(values, dtype=np.float64)
    weight = np.ones_like(value) if weights is None else np.asarray(weights, dtype=np.float64)
    if value.ndim != 1 or value.shape != weight.shape:
        raise ValueError(f"values {value.shape} and weights {weight.shape} must be two vectors of one length")
    if (weight <= 0).any():
        raise ValueError("weights must be positive")
    return value, weight
