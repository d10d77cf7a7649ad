"""How many steps: from epochs, from a number, or from a deadline and this machine's measured speed."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from nomoat.base.errors import InputError
from nomoat.tune.batches import Batches
from nomoat.tune.checkpoint import RunState
from nomoat.tune.config import TuneConfig

__all__ = ["Planner", "parse_budget", "seconds_until"]

_DEFAULT_EPOCHS = 3.0
_MOST_EPOCHS = 12  # beyond this a deadline run would only learn its text by heart
_UNITS = {"s": 1, "m": 60, "h": 3600}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhSMH])")
_LENGTH_OF_TIME = re.compile(rf"(?:{_PART.pattern})+")


def parse_budget(text: str) -> float:
    """`10m`, `2h`, `90s`, `1h30m` in seconds."""
    text = text.strip()
    if not _LENGTH_OF_TIME.fullmatch(text) or not (seconds := _sum_of_parts(text)):
        raise InputError(f"{text!r} is no length of time", "write it like 10m, 90s or 1h30m")
    return seconds


def _sum_of_parts(text: str) -> float:
    return sum(float(number) * _UNITS[unit.lower()] for number, unit in _PART.findall(text))


def seconds_until(text: str, now: datetime) -> float:
    """Seconds from `now` to the next time a clock shows `text` (`22:30`)."""
    try:
        clock = datetime.strptime(text, "%H:%M").time()
    except ValueError as error:
        raise InputError(f"{text!r} is no time of day", "write it like 22:30") from error
    end = datetime.combine(now.date(), clock)
    return (end if end > now else end + timedelta(days=1)).timestamp() - now.timestamp()


class Planner:
    """Answers the trainer's question after every step: how many steps shall the run have?

    With a deadline the answer follows the measured speed, so the run ends in time when the machine slows down; the
    learning rate's schedule follows the answer.
    """

    def __init__(
        self, config: TuneConfig, batches: Batches, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config, self._batches, self._clock = config, batches, clock
        self._deadline = math.inf
        self._step_seconds: float | None = None
        self._last = self._clock()

    def fixed(self) -> int:
        """Steps of a run without a deadline."""
        config = self._config
        if config.max_steps is not None:
            return config.max_steps
        return max(1, round((config.epochs or _DEFAULT_EPOCHS) * self._batches.steps_per_epoch))

    def until(self, deadline: float, step_seconds: float, done: int) -> int:
        """Steps in all that fit before `deadline` on the clock, `done` of them taken; at least one more."""
        self._last = self._clock()
        self._deadline, self._step_seconds = deadline, step_seconds
        return max(done + 1, min(self._most(), done + int((deadline - self._last) / step_seconds)))

    def sentence(self, total_steps: int) -> str:
        """The plan for a person."""
        epochs = total_steps / self._batches.steps_per_epoch
        plan = f"plan: {total_steps} steps of about {self._config.batch_tokens} tokens, {epochs:.1f} epochs"
        if self._step_seconds is None:
            return plan
        return f"{plan}, about {total_steps * self._step_seconds / 60:.1f} min"

    def replan(self, state: RunState) -> int:
        """Steps in all, given how far the run is; unchanged without a deadline."""
        if self._step_seconds is None:
            return state.total_steps
        now = self._clock()
        self._step_seconds += 0.2 * (now - self._last - self._step_seconds)
        self._last = now
        left = max(0, int((self._deadline - now) / self._step_seconds))
        wanted = min(self._most(), state.step + left)
        # Follow only what matters: a plan that moves with every hiccup would shake the learning rate.
        drift = abs(wanted - state.total_steps) > 0.05 * state.total_steps
        return wanted if drift or left == 0 else state.total_steps

    def _most(self) -> int:
        return _MOST_EPOCHS * self._batches.steps_per_epoch
