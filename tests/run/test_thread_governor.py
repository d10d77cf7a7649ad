"""The governor's decisions, on timings of a pretended machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from nomoat.run.threads import ThreadGovernor, measure_threads, thread_candidates, usable_cores

# Milliseconds per decode of the embedded model on two cores, measured: idle, and with another program running.
IDLE = {1: 0.0136, 2: 0.0077}
BUSY = {1: 0.0160, 2: 0.0900}


def _run(governor: ThreadGovernor, machine: Callable[[int], float], decodes: int) -> list[int]:
    used = []
    for _ in range(decodes):
        used.append(governor.threads)
        governor.observe(machine(governor.threads))
    return used


def test_it_starts_with_the_fastest_count() -> None:
    assert ThreadGovernor(IDLE).threads == 2
    assert ThreadGovernor({1: 0.02, 4: 0.012, 8: 0.011, 16: 0.030}).threads == 8


def test_an_idle_machine_keeps_all_threads() -> None:
    governor = ThreadGovernor(IDLE)
    assert set(_run(governor, IDLE.__getitem__, 500)) == {2}


def test_a_collapse_is_left_within_a_dozen_decodes() -> None:
    governor = ThreadGovernor(IDLE)
    _run(governor, IDLE.__getitem__, 20)
    used = _run(governor, BUSY.__getitem__, 40)
    assert used.index(1) <= 3
    assert used[12:] == [1] * 28


def test_more_threads_are_tried_ever_more_rarely_while_the_machine_stays_busy() -> None:
    governor = ThreadGovernor(IDLE)
    used = _run(governor, BUSY.__getitem__, 2000)
    trials = [place for place in range(12, 2000) if used[place] == 2 and used[place - 1] == 1]
    pauses = [b - a for a, b in itertools.pairwise(trials)]
    assert pauses == sorted(pauses)
    assert used[12:].count(2) <= 2 * len(trials), "a bad trial ends after two decodes"
    assert len(trials) <= 6


def test_all_threads_come_back_when_the_machine_calms_down() -> None:
    governor = ThreadGovernor(IDLE)
    _run(governor, BUSY.__getitem__, 60)
    assert governor.threads == 1
    used = _run(governor, IDLE.__getitem__, 200)
    assert used[-50:] == [2] * 50


def test_after_a_rest_more_threads_are_tried_at_once() -> None:
    governor = ThreadGovernor(IDLE)
    _run(governor, BUSY.__getitem__, 600)
    governor.begin(idle_seconds=30.0)
    used = _run(governor, IDLE.__getitem__, 20)
    assert used[10:] == [2] * 10


def test_a_context_that_grows_slow_on_any_count_keeps_the_threads() -> None:
    governor = ThreadGovernor(IDLE)
    position = iter(range(10_000))
    used = _run(governor, lambda threads: IDLE[threads] * (1 + next(position) / 2000), 6000)
    assert used.count(1) <= 40


def test_one_slow_decode_is_no_reason() -> None:
    governor = ThreadGovernor(IDLE)
    times = iter([0.0077] * 20 + [0.3] + [0.0077] * 20)
    used = _run(governor, lambda threads: next(times), 41)
    assert set(used) == {2}


def test_many_cores_step_down_to_what_is_free() -> None:
    measured = {1: 0.10, 2: 0.051, 3: 0.036, 4: 0.028, 6: 0.021, 8: 0.018}
    governor = ThreadGovernor(measured)

    def half_taken(threads: int) -> float:
        return measured[threads] if threads <= 4 else measured[threads] * 6

    used = _run(governor, half_taken, 300)
    assert max(set(used[60:]), key=used[60:].count) == 4


def test_a_fixed_count_stays_whatever_happens() -> None:
    governor = ThreadGovernor({2: 0.0}, fixed=True)
    assert set(_run(governor, BUSY.__getitem__, 300)) == {2}


def test_a_single_core_has_nothing_to_decide() -> None:
    governor = ThreadGovernor({1: 0.01})
    assert set(_run(governor, lambda threads: 0.05, 50)) == {1}


def test_measuring_goes_down_until_it_gets_worse() -> None:
    measured = {8: 0.02, 6: 0.015, 4: 0.012, 3: 0.016, 2: 0.022, 1: 0.04}
    found = measure_threads(measured.__getitem__, list(measured), budget_seconds=10)
    assert min(found, key=found.__getitem__) == 4
    assert 1 not in found, "two worse counts in a row end the search"


def test_measuring_a_slow_model_stays_within_its_budget() -> None:
    asked = []

    def slow(threads: int) -> float:
        asked.append(threads)
        return 0.7

    assert measure_threads(slow, [4, 3, 2, 1], budget_seconds=0.8) == {4: 0.7}
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (2, [2, 1]), (6, [6, 4, 3, 2, 1]), (10, [10, 8, 6, 4, 3, 2, 1])]
)
def test_candidates_are_every_small_count_and_a_few_large_ones(cores: int, counts: list[int]) -> None:
    assert thread_candidates(cores) == counts


def test_this_machine_has_a_core() -> None:
    assert usable_cores() >= 1


def test_a_thread_that_would_find_no_free_core_is_not_tried() -> None:
    free = 1.0
    governor = ThreadGovernor(IDLE, room=lambda: free)
    _run(governor, BUSY.__getitem__, 60)
    assert set(_run(governor, BUSY.__getitem__, 1000)) == {1}
    free = 2.0
    assert _run(governor, IDLE.__getitem__, 200)[-50:] == [2] * 50


def test_after_a_pause_it_begins_with_as_many_threads_as_there_are_free_cores() -> None:
    governor = ThreadGovernor({1: 0.02, 2: 0.012, 4: 0.008}, room=lambda: 2.2)
    assert governor.begin(idle_seconds=60.0) == 2
    assert governor.begin(idle_seconds=0.1) == 2
