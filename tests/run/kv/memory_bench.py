"""A session of the worker in this process: every evaluation, quiet moment and interruption happens when a test says so.

Prompts are evaluated in small portions. From 64 tokens on llama.cpp takes another routine for attention, whose sums
have another order; below that, answers that are computed alone can be compared to the last bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import llama_cpp

from nomoat.run import session as session_module
from nomoat.run.context import Context, Part
from nomoat.run.llama import AbortFlag
from nomoat.run.protocol import Done, Failed, Generate, GenerateResult, Load, Piece
from nomoat.run.sampling import SamplingParams
from nomoat.run.session import Session

__all__ = ["Answer", "Bench", "Interruption", "Made", "assert_same"]

_PORTION = 32


class Made(NamedTuple):
    """A token of an answer, how likely it was, and how far the likeliest one was ahead of the second."""

    token_id: int
    logprob: float
    lead: float


@dataclass
class Answer:
    """What came of a request so far."""

    tokens: list[int]
    made: list[Made] = field(default_factory=list)
    result: GenerateResult | None = None
    failure: Failed | None = None

    @property
    def token_ids(self) -> list[int]:
        """The answer alone."""
        return [made.token_id for made in self.made]


class Interruption(AbortFlag):
    """Stops an evaluation in its middle: after so many operations of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.after: int | None = None
        self._callback = llama_cpp.ggml_abort_callback(self._is_over)

    def attach(self, parameters: Any) -> None:
        """See `AbortFlag`."""
        parameters.abort_callback = self._callback

    def _is_over(self, _: object) -> bool:
        if self.after is None:
            return False
        self.after -= 1
        return self.after < 0


class Bench:
    """One session. `answer` runs a request to its end; `begin` and `step` go by single evaluations."""

    def __init__(
        self, path: Path, home: Path | None = None, *, context_length: int = 512, parallel: int = 1,
        cells: int = 0, portion: int = _PORTION,
    ) -> None:  # fmt: skip
        self._ids = itertools.count(1)
        self._answers: dict[int, Answer] = {}
        self.interruption = Interruption()
        load = Load(
            0, str(path), context_length, 1, str(home / "threads") if home else "", parallel=parallel, cells=cells,
            model_digest=path.name, kv_folder=str(home / "kv") if home else "", kv_bytes=1 << 30, steady_tokens=None,
        )  # fmt: skip
        with patch.object(session_module, "Context", partial(Context, batch_tokens=portion)):
            self.session = Session(load, self.interruption, self._receive, lambda share: None)
        self.evaluated = 0
        """Tokens that went through the network so far."""
        self._count_evaluated(self.session.context)

    def begin(
        self, tokens: Sequence[int], count: int, *, reuse: bool = True, speculate: bool = True
    ) -> tuple[int, Answer]:
        """Ask for `count` tokens behind `tokens`."""
        sampling = SamplingParams(temperature=0, max_tokens=count, logprobs=2, ignore_end=True).with_seed()
        number = next(self._ids)
        answer = self._answers[number] = Answer(list(tokens))
        request = Generate(number, list(tokens), sampling, reuse=reuse, speculate=speculate)
        self.session.scheduler.submit(request)
        return number, answer

    def step(self) -> None:
        """One evaluation."""
        self.session.scheduler.step()

    def answer(
        self, tokens: Sequence[int], count: int, *, reuse: bool = True, speculate: bool = True
    ) -> Answer:
        """The whole answer."""
        _, answer = self.begin(tokens, count, reuse=reuse, speculate=speculate)
        self.finish()
        assert answer.result is not None, answer.failure
        return answer

    def finish(self) -> None:
        """Let everything that was asked come to its end."""
        while self.session.scheduler.busy:
            self.step()

    def cancel(self, number: int) -> None:
        """Somebody does not want the answer any more."""
        self.session.scheduler.cancel({number})

    def rest(self) -> None:
        """A quiet moment, used to the end."""
        while self.session.tidy_up():
            pass
        if self.session.store is not None:
            assert self.session.store.flush(30)

    def close(self) -> None:
        """End as the worker does when its parent is gone."""
        self.session.close(5.0)
        self.session.context.close()
        self.session.model.close()

    def _count_evaluated(self, context: Context) -> None:
        several, one = context.evaluate, context.evaluate_one

        def evaluate(parts: Sequence[Part]) -> int:
            rows = several(parts)
            self.evaluated += sum(len(part.tokens) for part in parts)
            return rows

        def evaluate_one(token_id: int, position: int, sequence: int = 0) -> None:
            one(token_id, position, sequence)
            self.evaluated += 1

        vars(context).update(evaluate=evaluate, evaluate_one=evaluate_one)

    def _receive(self, message: Any) -> None:
        answer = self._answers[message.id]
        if isinstance(message, Piece):
            for entry in message.logprobs:
                lead = entry.top[0].logprob - entry.top[1].logprob
                answer.made.append(Made(entry.token_id, entry.logprob, lead))
        elif isinstance(message, Done):
            answer.result = message.value
        elif isinstance(message, Failed):
            answer.failure = message


def assert_same(found: Sequence[Made], expected: Sequence[Made], nats: float = 0.0) -> float:
    """The same tokens with the same log-probabilities, which may differ by `nats` where sums had another order.

    Two choices whose likelihoods each move by up to `nats` may change places where one leads by no more than twice as
    much. From there on the texts are different ones, and nothing more can be said. Returns the largest difference.
    """
    largest = 0.0
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one.token_id != other.token_id:
            assert other.lead <= 2 * nats, f"token {place}: {one} instead of {other}"
            return largest
        largest = max(largest, abs(one.logprob - other.logprob))
        assert largest <= nats, f"token {place}: {one} instead of {other}"
    return largest
