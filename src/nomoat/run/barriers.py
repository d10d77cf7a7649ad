"""How long llama.cpp's threads spin at a barrier before they sleep: long on a quiet machine, shortly beside others.

Some hundred barriers lie in one token. On a quiet machine spinning is 3 % faster than sleeping; beside another program
the thread that spins holds the core that the awaited one needs, and a token takes many times longer.

libgomp reads its spin count once, when it is loaded. But where a process has more OpenMP threads than processors, it
spins 100 times only (`gomp_throttled_spin_count_var`; libgomp/config/linux/wait.h and team.c in GCC). So a second team,
which sleeps, makes it impatient, and the end of the thread that owns this team makes it patient again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time

from nomoat.run.machine_load import OtherLoad

__all__ = ["SPIN_COUNT", "Barriers"]

SPIN_COUNT = "300000"
"""`GOMP_SPINCOUNT` for a process that looks after its barriers: some milliseconds, so that threads stay awake between
two decodes. That is what libgomp does by itself unless `OMP_WAIT_POLICY` says otherwise."""

_OFTEN_SECONDS = 0.25
_STALE_SECONDS = 2.0  # a mean over so long a time tells little of now
# Nor does a time in which this process had nothing to do: what ran then may have ended with it. At work it uses more.
_IDLE_CORES = 0.3
_BUSY_CORES, _QUIET_CORES = 0.35, 0.2  # what other programs use; in between all stays as it is


class Barriers:
    """Looks at the load of the machine now and then. Without effect where llama.cpp's threads are not libgomp's."""

    def __init__(self, cores: int, load: OtherLoad | None = None) -> None:
        """`cores` are those that this process may use; `load` measures what other programs use."""
        self._cores = cores
        self._gomp = _libgomp()
        self._team: _SleepingTeam | None = None
        self._load, self._due = load or OtherLoad.of_no_children(), time.monotonic() + _OFTEN_SECONDS

    @property
    def patient(self) -> bool:
        """Whether threads spin for long."""
        return self._team is None

    def look(self) -> None:
        """Adapt, where it is time to. Less than a microsecond elsewhere, so it may stand beside each evaluation."""
        now = time.monotonic()
        if now < self._due or self._gomp is None:
            return
        self._due = now + _OFTEN_SECONDS
        lap = self._load.lap()
        if lap.seconds < _STALE_SECONDS and lap.own_cores > _IDLE_CORES:
            self._adapt(self._gomp, lap.other_cores)

    def close(self) -> None:
        """Let the sleeping team go."""
        if self._team is not None:
            self._team.end()
            self._team = None

    def _adapt(self, gomp: ctypes.CDLL, others: float) -> None:
        if self._team is None and others > _BUSY_CORES:
            self._team = _SleepingTeam(gomp, self._cores + 1)
        elif others < _QUIET_CORES:
            self.close()


class _SleepingTeam:
    """OpenMP threads that have nothing to do, and count. They live as long as the thread that began them."""

    def __init__(self, gomp: ctypes.CDLL, threads: int) -> None:
        self._over, begun = threading.Event(), threading.Event()

        def own() -> None:
            # What the team does once: free(NULL), a C function of the right form that does nothing.
            gomp.GOMP_parallel(ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p), None, threads, 0)
            begun.set()
            self._over.wait()

        self._thread = threading.Thread(target=own, name="sleeping-team", daemon=True)
        self._thread.start()
        begun.wait()

    def end(self) -> None:
        """End the threads."""
        self._over.set()
        self._thread.join()


def _libgomp() -> ctypes.CDLL | None:
    """The library that llama.cpp has loaded, if it has."""
    with contextlib.suppress(OSError, AttributeError):
        loaded = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOW | os.RTLD_NOLOAD)
        loaded.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        return loaded
    return None
