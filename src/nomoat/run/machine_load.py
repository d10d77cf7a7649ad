"""How busy other programs keep this machine: a measurement of a busy machine says little of it."""

from __future__ import annotations

import contextlib
import time

import psutil

__all__ = ["OtherLoad", "Room", "other_load_now"]

_LEAST_SECONDS = 0.1  # the system counts in hundredths of a second


class OtherLoad:
    """Cores that other programs keep busy, between the making of the object and `cores`."""

    def __init__(self, children: bool = True) -> None:
        """`children` is whether this process may have some: to look for them takes milliseconds."""
        self._children = children
        self._start, self._machine, self._own = time.monotonic(), _machine_seconds(), _own_seconds(children)

    @classmethod
    def of_no_children(cls) -> OtherLoad:
        """For a process that starts no others: it costs some ten microseconds."""
        return cls(children=False)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._start

    def cores(self) -> float:
        """Mean number of cores that programs other than this one and its children used since the start."""
        elapsed = self.seconds
        others = (_machine_seconds() - self._machine) - (_own_seconds(self._children) - self._own)
        return max(0.0, others / elapsed) if elapsed > 0 else 0.0


class Room:
    """How many of `cores` other programs leave free: asked again and again, for the time in between."""

    def __init__(self, cores: int) -> None:
        self._cores, self._load = cores, OtherLoad.of_no_children()

    def __call__(self) -> float | None:
        """Mean number of free cores since the last call; None where that was too short a time to tell."""
        if self._load.seconds < _LEAST_SECONDS:
            return None
        free = self._cores - self._load.cores()
        self._load = OtherLoad.of_no_children()
        return free


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
    process = psutil.Process()
    total = sum(process.cpu_times()[:4])  # children that have ended are counted by the kernel
    for child in process.children(recursive=True) if children else ():
        with contextlib.suppress(psutil.Error):
            total += sum(child.cpu_times()[:4])
    return float(total)
