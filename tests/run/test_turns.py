"""Adapter sets take turns: long enough that switching is cheap, and nobody is left out."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from nomoat.run.adapter_pool import AdapterSet
from nomoat.run.turns import Turns

A, B, C = (((("file", 1, number), 1.0),) for number in range(3))


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _served(wanted: list[AdapterSet], steps: int, seconds: float) -> list[AdapterSet]:
    clock = _Clock()
    turns, served = Turns(clock), []
    for _ in range(steps):
        served.append(turns.next(wanted))
        clock.now += seconds
    return served


def test_one_set_alone_keeps_its_turn() -> None:
    assert set(_served([A, A], 50, 0.05)) == {A}


def test_all_get_the_same_share_in_turns_of_several_steps() -> None:
    served = _served([A, B, C, A], 300, 0.01)
    assert max(Counter(served).values()) - min(Counter(served).values()) <= 12
    assert sum(a != b for a, b in pairwise(served)) < 35


def test_a_set_that_nobody_wants_any_more_loses_its_turn_at_once() -> None:
    turns = Turns(_Clock())
    first = turns.next([A, B])
    (other,) = {A, B} - {first}
    assert turns.next([other]) == other
