"""How many threads decode: measured at the start, corrected while running.

Two threads on two cores are fastest while the machine is idle and collapse when another program runs: each
thread then waits at hundreds of barriers per token for the other, which is not scheduled. Nothing but the
clock tells, so the governor watches it. It knows no engine: timings in, thread counts out.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["ThreadGovernor", "measure_threads", "thread_candidates", "usable_cores"]

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")

_WINDOW = 8  # decodes that the running median looks at
_SLOW = 1.3  # this much slower than the best known: something else runs
_COLLAPSED = 2.0  # this much slower three times in a row: no need to wait for the window
_PROBE = 5  # decodes of another thread count before judging it; the first rebuilds the team: left out
_BETTER = 0.95  # another count must save 5 % to be kept
_FIRST_RETRY, _LAST_RETRY = 48, 1536  # decodes between trials of more threads that fail
_FIRST_RETRY_FEWER = 8  # the same for fewer threads: while decodes are slow, looking for better is urgent
_HALF_A_CORE = 0.5  # a core that is free for at least this part counts as free
_RESTED_SECONDS = 5.0  # after such a pause the load may be gone: try more threads at once


def usable_cores() -> int:
    """Physical cores that this process may use: affinity and container quota count, SMT siblings do not."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # absent on macOS
    if affinity is not None:
        cores = min(cores, len(affinity()))
    try:
        quota, period = _CGROUP_QUOTA.read_text().split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no such file, or "max": no quota
    return max(1, cores)


def thread_candidates(cores: int) -> list[int]:
    """Thread counts worth measuring, largest first: each up to 4, then steps of about a third."""
    counts = [count for count in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128) if count < cores]
    return [*counts, cores][::-1]


def measure_threads(
    decode: Callable[[int], float], candidates: Sequence[int], budget_seconds: float = 0.8
) -> dict[int, float]:
    """Median seconds of a decode for each thread count, from `decode(threads) -> seconds`.

    Goes down from the largest count and stops once two counts in a row are slower than the best, or when the
    budget is spent: a large model is measured on few counts, a small one on all. The first decode of each
    count is not counted.
    """
    found: dict[int, float] = {}
    spent, worse = 0.0, 0
    for threads in candidates:
        spent += decode(threads)
        times = [decode(threads)]
        share = budget_seconds / len(candidates)
        while len(times) < 9 and sum(times) < share:
            times.append(decode(threads))
        spent += sum(times)
        worse = worse + 1 if found and statistics.median(times) > min(found.values()) else 0
        found[threads] = statistics.median(times)
        if worse == 2 or spent > budget_seconds:
            break
    return found


@dataclass
class _Probe:
    """A trial of another thread count: what it is compared with, and its decodes so far."""

    back_to: int
    reference_seconds: float
    times: list[float]


class _Backoff:
    """When a trial may be made: after a pause that doubles with each one that failed."""

    def __init__(self, first_wait: int, first_pause: int) -> None:
        self._first_wait, self._first_pause = first_wait, first_pause
        self.due, self._pause = first_wait, first_pause

    def failed(self, now: int) -> None:
        """The trial brought nothing: wait twice as long as after the last one. `now` counts decodes."""
        self.due, self._pause = now + self._pause, min(2 * self._pause, _LAST_RETRY)

    def postpone(self, now: int) -> None:
        """It was not the moment for a trial: ask again soon."""
        self.due = now + _WINDOW

    def reset(self, now: int, at_once: bool = False) -> None:
        """The machine may have changed: forget the failures."""
        self.due, self._pause = now if at_once else now + self._first_wait, self._first_pause


class ThreadGovernor:
    """Decides the thread count of the next decode from the time of the last one.

    Steps down when decodes take 1.3 times as long as the best known and one count fewer proves faster; tries
    more again later. A trial costs at most five decodes and is given up after two bad ones. Where fewer
    threads do not help (a long context is slower, too), the pause before the next trial doubles.
    """

    def __init__(
        self, decode_seconds: Mapping[int, float], fixed: bool = False,
        room: Callable[[], float | None] = lambda: None,
    ) -> None:  # fmt: skip
        """Start at the fastest of the measured counts and never try more; if `fixed`, nor fewer.

        `room` says how many cores other programs left free lately, None where it does not know. A thread without a
        core of its own is not worth trying.
        """
        self._room = room
        self.top = min(decode_seconds, key=lambda count: (decode_seconds[count], count))
        self.threads = self.top
        fewer = {1, *decode_seconds} if not fixed else {self.top}
        self._counts = sorted(count for count in fewer if count <= self.top)
        self._best = dict(decode_seconds)
        self._window: deque[float] = deque(maxlen=_WINDOW)
        self._probe: _Probe | None = None
        self._fewer, self._more = _Backoff(0, _FIRST_RETRY_FEWER), _Backoff(_FIRST_RETRY, _FIRST_RETRY)
        self._decodes = 0
        self._limit = self._slow_limit()
        self._stride = 1  # grows while fewer threads do not help: several cores may be taken

    def begin(self, idle_seconds: float) -> int:
        """A request begins after a pause; returns the threads for its first decode."""
        if idle_seconds > _RESTED_SECONDS:
            self._more.reset(self._decodes, at_once=True)
            self._fewer.reset(self._decodes)
            self._fit_into(self._room())
        return self.threads

    def observe(self, seconds: float) -> int:
        """A decode took `seconds` with the present threads; returns the threads for the next one."""
        if len(self._counts) == 1:
            return self.threads
        self._decodes += 1
        if self._probe is not None:
            self._judge(self._probe, seconds)
            return self.threads
        self._window.append(seconds)
        usual = seconds <= self._limit and self._decodes % _WINDOW
        if not usual or (self.threads < self.top and self._decodes >= self._more.due):
            self._consider()
        return self.threads

    def _consider(self) -> None:
        """Look at the window: start a trial, or learn how fast this count can be."""
        recent = list(self._window)[-3:]
        if self._decodes >= self._fewer.due and self.threads > self._counts[0] and self._is_slow(recent):
            self._try(-self._stride, statistics.median(recent))
        elif self._decodes >= self._more.due and self.threads < self.top and len(recent) == 3:
            if self._is_room_for_more():
                self._try(+1, statistics.median(self._window))
            else:
                self._more.postpone(self._decodes)
        elif len(self._window) == _WINDOW:
            median = statistics.median(self._window)
            self._best[self.threads] = min(self._best.get(self.threads, median), median)
            self._limit = self._slow_limit()

    def _fit_into(self, room: float | None) -> None:
        """Begin with no more threads than there are free cores."""
        if room is None:
            return
        fitting = [count for count in self._counts if count <= room + _HALF_A_CORE] or self._counts[:1]
        if fitting[-1] < self.threads:
            self.threads = fitting[-1]
            self._probe = None
            self._window.clear()
            self._limit = self._slow_limit()

    def _is_room_for_more(self) -> bool:
        room = self._room()
        return room is None or room + _HALF_A_CORE >= self._counts[self._counts.index(self.threads) + 1]

    def _slow_limit(self) -> float:
        """Seconds up to which a decode is no reason to look closer."""
        return _SLOW * self._best.get(self.threads, 0.0)

    def _is_slow(self, recent: Sequence[float]) -> bool:
        best = self._best.get(self.threads)
        if best is None:
            return False
        collapsed = len(recent) == 3 and min(recent) > _COLLAPSED * best
        full = len(self._window) == _WINDOW
        return collapsed or (full and statistics.median(self._window) > _SLOW * best)

    def _try(self, step: int, reference_seconds: float) -> None:
        self._probe = _Probe(self.threads, reference_seconds, [])
        self.threads = self._counts[max(0, self._counts.index(self.threads) + step)]

    def _judge(self, probe: _Probe, seconds: float) -> None:
        probe.times.append(seconds)
        hopeless = len(probe.times) == 2 and min(probe.times) > _SLOW * probe.reference_seconds
        if len(probe.times) < _PROBE and not hopeless:
            return
        self._probe = None
        self._window.clear()
        self._conclude(probe)
        self._limit = self._slow_limit()

    def _conclude(self, probe: _Probe) -> None:
        upwards = self.threads > probe.back_to
        if statistics.median(probe.times[1:]) < _BETTER * probe.reference_seconds:
            self._more.reset(self._decodes)
            self._fewer.reset(self._decodes)
            self._stride = 1
            return
        self._stride = 1 if upwards or self.threads == self._counts[0] else self._stride + 1
        self.threads = probe.back_to
        (self._more if upwards else self._fewer).failed(self._decodes)
