"""The answers that are on their way, each with a number of its own while it lasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nomoat.run.generation import Generation
from nomoat.run.sampling import SamplingParams

__all__ = ["RunningAnswer", "RunningAnswers"]


@dataclass(eq=False, slots=True)
class RunningAnswer:
    """An answer of `model`. Its `number` is that of llama-server's slots: from `parallel` on it waits."""

    model: str
    generation: Generation
    prompt_tokens: Sequence[int]
    sampling: SamplingParams
    number: int = -1
    made_tokens: int = 0


class RunningAnswers:
    """Gives each answer the lowest number that is free for its model. Not for use by two threads at once."""

    def __init__(self, parallel: int) -> None:
        """An engine works on `parallel` answers at once."""
        self._parallel = parallel
        self._answers: list[RunningAnswer] = []

    def all(self) -> list[RunningAnswer]:
        """Every answer."""
        return list(self._answers)

    def of(self, model: str) -> list[RunningAnswer]:
        """Those of one model."""
        return [answer for answer in self._answers if answer.model == model]

    def begin(self, answer: RunningAnswer) -> None:
        """Another one, which gets its number."""
        taken = {other.number for other in self.of(answer.model)}
        answer.number = next(number for number in range(len(taken) + 1) if number not in taken)
        self._answers.append(answer)

    def end(self, answer: RunningAnswer) -> None:
        """It is over. Its number goes to the one that waits for the longest time."""
        self._answers.remove(answer)
        waiting = [other for other in self.of(answer.model) if other.number >= self._parallel]
        if answer.number < self._parallel and waiting:
            waiting[0].number = answer.number
