"""Threads spin at barriers while the machine is quiet, and hardly beside other programs; libgomp must follow."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from nomoat.run import barriers as barriers_module
from nomoat.run.barriers import Barriers
from nomoat.run.machine_load import Lap


class _Load:
    """What this process and others are said to use."""

    def __init__(self, *laps: Lap) -> None:
        self._laps = iter(laps)

    def lap(self) -> Lap:
        return next(self._laps)


def _lap(other_cores: float, seconds: float = 0.3, own_cores: float = 1.0) -> Lap:
    return Lap(seconds, other_cores, own_cores)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import llama_cpp  # noqa: F401  (loads libgomp)

    monkeypatch.setattr(barriers_module, "_OFTEN_SECONDS", 0.0)


def _after(*laps: Lap) -> list[bool]:
    """Whether threads are patient after each look."""
    barriers = Barriers(2, _Load(*laps))  # type: ignore[arg-type]
    found = []
    for _ in laps:
        barriers.look()
        found.append(barriers.patient)
    barriers.close()
    return found


def test_they_follow_the_load_of_the_machine_and_do_not_waver() -> None:
    loads = [0.0, 1.0, 0.3, 0.1, 0.3]
    assert _after(*map(_lap, loads)) == [True, False, False, True, True]


def test_a_mean_over_a_long_time_decides_nothing() -> None:
    assert _after(_lap(2.0, seconds=60.0), _lap(2.0)) == [True, False]


def test_what_ran_while_this_process_was_idle_decides_nothing() -> None:
    assert _after(_lap(2.0, own_cores=0.1), _lap(1.5, own_cores=0.5)) == [True, False]


def test_the_second_team_comes_and_goes() -> None:
    process = psutil.Process()
    before = {thread.id for thread in process.threads()}
    barriers = Barriers(2, _Load(_lap(1.0), _lap(0.0)))  # type: ignore[arg-type]
    barriers.look()
    team = {thread.id for thread in process.threads()} - before
    assert len(team) == 3  # the one that owns it is one of the three, too
    barriers.look()
    deadline = time.monotonic() + 5  # the owner has ended, the others do so soon
    while team & {thread.id for thread in process.threads()} and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not team & {thread.id for thread in process.threads()}


_SPIN = """
import ctypes, os, sys, time
import llama_cpp
from nomoat.run.barriers import _SleepingTeam, _libgomp
gomp = _libgomp()
cores = len(os.sched_getaffinity(0))
usleep = ctypes.CDLL(None).usleep

def used():  # processor seconds of a team that waits for its slowest member
    first = lambda: gomp.omp_get_thread_num() == 0
    slow = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: time.sleep(0.2) if first() else None)
    before = time.process_time()
    gomp.GOMP_parallel(ctypes.cast(slow, ctypes.c_void_p), None, 2, 0)
    return time.process_time() - before

used()
patient = used()
team = _SleepingTeam(gomp, cores + 1)
impatient = used()
team.end()
deadline = time.monotonic() + 10  # the team's threads end soon, not at once
while (again := used()) < 0.5 * patient and time.monotonic() < deadline:
    pass
print(patient, impatient, again)
"""


def test_libgomp_spins_less_while_the_second_team_sleeps() -> None:
    """With a spin count of minutes, a thread that waits 0.2 s spins all the time, unless it is throttled."""
    command = [sys.executable, "-c", _SPIN]
    environment = {**os.environ, "GOMP_SPINCOUNT": "100000000000"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    patient, impatient, again = map(float, answer.stdout.split())
    assert impatient < 0.3 * patient
    assert again >= 0.5 * patient
