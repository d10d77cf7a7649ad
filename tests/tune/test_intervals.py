"""Intervals against published numbers and against what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nomoat.tune.intervals import (
    bits_per_byte_by_document,
    bootstrap_mean,
    paired_bootstrap,
    wilson_interval,
)


def test_wilson_agrees_with_newcombes_table() -> None:
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
    for successes, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
    ]:
        interval = wilson_interval(successes, n)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_no_data_has_no_interval() -> None:
    assert wilson_interval(0, 0).low is None
    assert math.isnan(bootstrap_mean([]).estimate)
    assert bootstrap_mean([2.0]).low is None and bootstrap_mean([2.0]).estimate == 2.0
    assert not bootstrap_mean([2.0]).excludes_zero()


def test_the_bootstrap_is_the_same_every_time_and_near_the_textbook() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, size=400)
    first, second = bootstrap_mean(values), bootstrap_mean(values)
    assert first == second
    assert first.low is not None and first.high is not None
    assert first.high - first.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_pairing_finds_a_small_gain_among_very_different_documents() -> None:
    generator = np.random.default_rng(2)
    before = generator.uniform(0.5, 3.0, size=60)
    after = before - 0.05 + generator.normal(0, 0.02, size=60)
    gain = paired_bootstrap(before, after)
    assert gain.excludes_zero() and gain.high is not None and gain.high < 0
    assert gain.estimate == pytest.approx(-0.05, abs=0.01)
    assert not paired_bootstrap(before, before[::-1]).excludes_zero()


def test_weights_by_bytes_give_the_difference_of_the_totals() -> None:
    names, n_bytes = ["a", "b", "a", "c", "none"], [10, 30, 20, 40, 0]
    before, weights = bits_per_byte_by_document(names, [7.0, 9.0, 5.0, 20.0, 0.0], n_bytes)
    after, _ = bits_per_byte_by_document(names, [6.0, 9.0, 4.0, 10.0, 0.0], n_bytes)
    assert weights.tolist() == [30.0, 30.0, 40.0]
    assert before[0] == pytest.approx(12.0 / math.log(2) / 30)
    expected = (29.0 - 41.0) / math.log(2) / 100
    assert paired_bootstrap(before, after, weights).estimate == pytest.approx(expected)


def test_unequal_lengths_and_bad_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="before"):
        paired_bootstrap([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="positive"):
        bootstrap_mean([1.0, 2.0], [1.0, 0.0])
