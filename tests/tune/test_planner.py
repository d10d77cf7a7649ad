"""How long a run shall be: from a number, or from a deadline and the measured speed; all decisions, no waiting."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.base.errors import InputError
from nomoat.tune.batches import Batches
from nomoat.tune.checkpoint import RunState
from nomoat.tune.config import TuneConfig
from nomoat.tune.planner import Planner, parse_budget, seconds_until
from nomoat.tune.schedule import learning_rate

LONG_DATASET = Batches([100] * 10_000, 1000, 0)  # 1,000 steps in an epoch


class Machine:
    """A clock that moves only while a run works, and a run that does as the planner says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def train(
        self, planner: Planner, first_plan: int, step_seconds: Callable[[int], float], done: int = 0
    ) -> RunState:
        """The state after a run from step `done` whose step number i takes `step_seconds(i)`."""
        state = RunState("", step=done, total_steps=first_plan)
        while state.step < state.total_steps:
            self.now += step_seconds(state.step)
            state.step += 1
            state.total_steps = max(state.step, planner.replan(state))
        return state


@pytest.fixture
def machine() -> Machine:
    return Machine()


def _planner(machine: Machine, batches: Batches = LONG_DATASET, **config: float) -> Planner:
    return Planner(TuneConfig(**(config or {"budget_seconds": 600})), batches, lambda: machine.now)


# -- numbers of steps ----------------------------------------------------------------------------


def test_a_number_of_steps_is_taken_as_it_is(machine: Machine) -> None:
    assert _planner(machine, max_steps=7).fixed() == 7


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1000), (2.5, 2500), (0.0001, 1)])
def test_epochs_are_steps_of_the_whole_dataset(epochs: float, steps: int, machine: Machine) -> None:
    assert _planner(machine, epochs=epochs).fixed() == steps


def test_three_epochs_are_the_default(machine: Machine) -> None:
    assert Planner(TuneConfig(), LONG_DATASET, lambda: machine.now).fixed() == 3000


def test_without_a_deadline_nothing_is_planned_anew(machine: Machine) -> None:
    planner = _planner(machine, max_steps=50)
    machine.now += 1e6
    assert planner.replan(RunState("", step=3, total_steps=50)) == 50


# -- deadlines -----------------------------------------------------------------------------------


def test_as_many_steps_as_fit_are_planned(machine: Machine) -> None:
    assert _planner(machine).until(machine.now + 600, 0.5, 0) == 1200


def test_a_resumed_run_adds_what_fits_to_what_is_done(machine: Machine) -> None:
    assert _planner(machine).until(machine.now + 60, 0.5, 700) == 820


def test_a_budget_that_is_spent_already_still_takes_one_step(machine: Machine) -> None:
    assert _planner(machine).until(machine.now - 5, 0.5, 0) == 1
    assert _planner(machine).until(machine.now - 5, 0.5, 30) == 31


def test_no_budget_makes_a_small_text_be_learned_by_heart(machine: Machine) -> None:
    small = Batches([100] * 20, 1000, 0)
    assert _planner(machine, small).until(machine.now + 1e6, 0.5, 0) == 12 * small.steps_per_epoch


@pytest.mark.parametrize(
    "step_seconds",
    [lambda i: 0.5, lambda i: 0.5 + i / 500, lambda i: 0.5 if i < 200 else 3.0, lambda i: 0.52,
     lambda i: 5.0 if i % 10 == 0 else 0.5],
    ids=["steady", "slower and slower", "six times slower from step 200", "a little slower", "a pause every ten steps"],
)  # fmt: skip
def test_a_run_ends_before_its_deadline_however_slow_the_machine_becomes(
    step_seconds: Callable[[int], float], machine: Machine
) -> None:
    planner, deadline = _planner(machine), machine.now + 600
    state = machine.train(planner, planner.until(deadline, 0.5, 0), step_seconds)
    # The last step may be a slow one: nobody knows that before it is taken.
    assert machine.now <= deadline + step_seconds(state.step - 1)
    assert machine.now >= deadline - 40, "time that was given is used"


def test_a_machine_that_becomes_faster_trains_on_until_its_deadline(machine: Machine) -> None:
    planner, deadline = _planner(machine), machine.now + 600
    state = machine.train(planner, planner.until(deadline, 0.5, 0), lambda i: 0.25)
    assert state.step > 2000
    assert deadline - 30 <= machine.now <= deadline


def test_a_step_that_is_a_little_slower_does_not_shake_the_plan(machine: Machine) -> None:
    planner = _planner(machine)
    plan = planner.until(machine.now + 600, 0.5, 0)
    machine.now += 0.6
    assert planner.replan(RunState("", step=1, total_steps=plan)) == plan


def test_the_learning_rate_is_almost_nothing_when_a_slowed_run_ends(machine: Machine) -> None:
    planner = _planner(machine)
    plan = planner.until(machine.now + 600, 0.5, 0)
    state = machine.train(planner, plan, lambda i: 0.5 if i < 300 else 1.5)
    assert learning_rate(1.0, state.step - 1, state.total_steps, 0.05) < 0.05


@given(st.floats(0.01, 50), st.lists(st.floats(0.01, 50), min_size=1, max_size=30))
def test_no_plan_goes_back_behind_what_is_done(probe: float, seconds: list[float]) -> None:
    machine = Machine()
    planner = _planner(machine)
    pace = itertools.cycle(seconds)
    state = machine.train(planner, planner.until(machine.now + 100, probe, 0), lambda i: next(pace))
    assert state.step == state.total_steps
    assert machine.now <= 1000 + 100 + 50 + max(seconds)


def test_a_plan_tells_steps_epochs_and_time(machine: Machine) -> None:
    planner = _planner(machine)
    sentence = planner.sentence(planner.until(machine.now + 600, 0.5, 0))
    assert "1200 steps" in sentence
    assert "1.2 epochs" in sentence
    assert "10.0 min" in sentence


# -- what people write ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("90s", 90),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (" 10M ", 600),
        ("1h1m1s", 3661),
    ],
)
def test_a_length_of_time_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "m", "10x", "0m", "-5m", "1.2.3m", "m10", "10m5", "1e3s", "..m", "٣m", "²m"]
)
def test_what_is_no_length_of_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_budget(text)
    assert "10m" in error.value.hint


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_lengths_of_time_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_budget(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@pytest.mark.parametrize(
    ("clock", "now", "seconds"),
    [
        ("22:30", datetime(2026, 11, 23, 22, 0), 1800),
        ("22:30", datetime(2026, 11, 23, 22, 29, 30), 30),
        ("01:00", datetime(2026, 11, 23, 23, 0), 7200),
        ("00:00", datetime(2026, 12, 31, 23, 59), 60),
        ("22:30", datetime(2026, 11, 23, 22, 30), 86400),
        ("7:05", datetime(2026, 11, 23, 7, 0), 300),
    ],
)
def test_a_time_of_day_is_the_next_one_even_past_midnight(clock: str, now: datetime, seconds: float) -> None:
    assert seconds_until(clock, now) == seconds


@pytest.mark.parametrize("text", ["24:00", "12:60", "noon", "", "12", "12:00:00", "-1:00"])
def test_what_is_no_time_of_day_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError) as error:
        seconds_until(text, datetime(2026, 11, 23))
    assert "22:30" in error.value.hint
