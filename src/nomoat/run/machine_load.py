"""How busy other programs keep this machine: a measurement of a busy machine says little of it."""

from __future__ import annotations

import contextlib
import time
from typing import NamedTuple

import psutil

__all__ = ["Lap", "OtherLoad", "Room", "other_load_now"]

_LEAST_SECONDS = 0.1  # the system counts in hundredths of a second


class Lap(NamedTuple):
    """How long it took, and the mean number of cores that other programs and this process used meanwhile."""

    seconds: float
    other_cores: float
    own_cores: float


class OtherLoad:
    """Cores that other programs keep busy, between the making of the object and `cores`."""

    def __init__(self, children: bool = True) -> None:
        """`children` is whether this process may have some: to look for them takes milliseconds."""
        self._children = children
        self._start, self._machine, self._own = time.monotonic(), _machine_seconds(), _own_seconds(children)

    @classmethod
    def of_no_children(cls) -> OtherLoad:
        """For a process that starts no others: it costs less than a millisecond."""
        return cls(children=False)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._start

    def cores(self) -> float:
        """Mean number of cores that programs other than this one and its children used since the start."""
        return self._lap(time.monotonic(), _machine_seconds(), _own_seconds(self._children)).other_cores

    def lap(self) -> Lap:
        """What was used since the start, which is now."""
        now, machine, own = time.monotonic(), _machine_seconds(), _own_seconds(self._children)
        lap = self._lap(now, machine, own)
        self._start, self._machine, self._own = now, machine, own
        return lap

    def _lap(self, now: float, machine: float, own: float) -> Lap:
        elapsed, used = now - self._start, own - self._own
        if elapsed <= 0:
            return Lap(0.0, 0.0, 0.0)
        return Lap(elapsed, max(0.0, (machine - self._machine - used) / elapsed), used / elapsed)


class Room:
    """How many of `cores` other programs leave free: asked again and again, for the time in between."""

    def __init__(self, cores: int) -> None:
        self._cores, self._load = cores, OtherLoad.of_no_children()
        self._last: float | None = None

    def __call__(self) -> float | None:
        """Mean number of free cores since the last call, what that one said if it was just now; None if none was."""
        if self._load.seconds >= _LEAST_SECONDS:
            self._last = self._cores - self._load.lap().other_cores
        return self._last


def other_load_now(seconds: float = 0.3) -> float:
    """Cores that other programs use during the next `seconds`."""
    load = OtherLoad()
    time.sleep(seconds)
    return load.cores()


def _machine_seconds() -> float:
    times = psutil.cpu_times()
    idle = sum(getattr(times, kind, 0.0) for kind in ("idle", "iowait", "steal", "guest", "guest_nice"))
    return float(sum(times)) - idle


def _own_seconds(children: bool) -> float:
    if not children:
        return time.process_time()
    process = psutil.Process()
    total = sum(process.cpu_times()[:4])  # children that have ended are counted by the kernel
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += sum(child.cpu_times()[:4])
    return float(total)
