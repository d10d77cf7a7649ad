"""Whose adapters are applied next: sequences with different ones cannot be evaluated together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from nomoat.run.adapter_pool import AdapterSet

__all__ = ["Turns"]

# Applying other adapters costs llama.cpp some milliseconds; a turn of this length makes that a few percent.
_TURN_SECONDS = 0.1


class Turns:
    """Hands the turn round among adapter sets, the one that waited longest first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._current: AdapterSet | None = None
        self._begun = 0.0
        self._served: dict[AdapterSet, float] = {}

    def next(self, wanted: Sequence[AdapterSet]) -> AdapterSet:
        """The set of `wanted` (not empty) that the next evaluation is for."""
        now = self._clock()
        current = self._current
        if current is not None:
            alone = all(adapters == current for adapters in wanted)
            if current in wanted and (alone or now - self._begun < _TURN_SECONDS):
                return current
            self._served[current] = now
        self._served = {adapters: self._served.get(adapters, now) for adapters in dict.fromkeys(wanted)}
        self._current = min(self._served, key=self._served.__getitem__)
        self._begun = now
        return self._current
