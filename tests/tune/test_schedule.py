"""The learning rate: up, then down along a half cosine, to almost nothing at the planned end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nomoat.tune.schedule import learning_rate

TOTALS, WARMUPS = st.integers(1, 3000), st.floats(0, 1)


@given(TOTALS, WARMUPS, st.floats(1e-6, 1))
def test_every_step_moves_and_none_beyond_the_peak(total: int, warmup: float, peak: float) -> None:
    rates = [learning_rate(peak, step, total, warmup) for step in range(total)]
    assert all(0 < rate <= peak for rate in rates)


@given(st.integers(2, 3000), st.floats(0, 0.5))
def test_it_rises_to_the_peak_and_then_only_falls(total: int, warmup: float) -> None:
    rates = [learning_rate(1.0, step, total, warmup) for step in range(total)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_it_warms_up_for_the_share_asked_for_and_starts_above_nothing() -> None:
    rates = [learning_rate(1.0, step, 100, 0.1) for step in range(100)]
    assert rates.index(1.0) == 10
    assert rates[0] == 1 / 11


def test_it_ends_at_nothing_when_the_steps_are_done() -> None:
    assert learning_rate(1.0, 99, 100, 0.05) < 0.001
    assert learning_rate(1.0, 100, 100, 0.05) == 0.0
    assert learning_rate(1.0, 150, 100, 0.05) == 0.0


def test_a_run_of_one_step_takes_it_at_the_peak() -> None:
    assert learning_rate(0.01, 0, 1, 0.05) == 0.01


def test_a_shorter_plan_lowers_the_rate_at_once() -> None:
    # The planner shortens a run on a machine that has become slower: the rate must follow.
    assert learning_rate(1.0, 40, 50, 0.05) < learning_rate(1.0, 40, 100, 0.05)
