"""How many cores other programs leave free, asked again and again."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import cast

import pytest

from nomoat.run.machine_load import Lap, OtherLoad, Room


def test_nothing_is_known_at_first() -> None:
    assert Room(2)() is None


def test_free_cores_are_those_that_nobody_used_since_the_last_question() -> None:
    room = Room(1)
    time.sleep(0.15)
    free = room()
    assert free is not None
    assert free <= 1.0


def test_asked_again_at_once_it_says_what_it_said() -> None:
    """None would let a thread be tried where there was no core for it a moment ago."""
    room = Room(4)
    load = SimpleNamespace(seconds=1.0, lap=lambda: Lap(1.0, 2.5, 0.5))
    room._load = cast(OtherLoad, load)
    assert room() == pytest.approx(1.5)
    load.seconds = 0.01
    assert room() == pytest.approx(1.5)
