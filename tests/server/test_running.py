"""Numbers of answers on their way: what llama-server's clients see as slots."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nomoat.run.engine import Engine
from nomoat.run.generation import Generation
from nomoat.run.sampling import SamplingParams
from nomoat.server.running import RunningAnswer, RunningAnswers

ONE = SamplingParams(max_tokens=1)


@pytest.fixture(scope="module")
def generation(engine: Engine) -> Iterator[Generation]:
    with engine.generate("x", ONE) as running:
        yield running


def test_an_answer_that_ends_gives_its_number_to_the_one_that_waits_longest(generation: Generation) -> None:
    running = RunningAnswers(parallel=2)
    first, second, third, fourth = (RunningAnswer("a", generation, [1], ONE) for _ in range(4))
    for answer in (first, second, third, fourth):
        running.begin(answer)
    assert [answer.number for answer in running.of("a")] == [0, 1, 2, 3]
    running.end(second)
    assert (first.number, third.number, fourth.number) == (0, 1, 3)
    running.end(fourth)
    assert (first.number, third.number) == (0, 1)


def test_each_model_counts_for_itself_and_a_free_number_is_taken_again(generation: Generation) -> None:
    running = RunningAnswers(parallel=4)
    one, two, other = (RunningAnswer(model, generation, [1], ONE) for model in ("a", "a", "b"))
    for answer in (one, two, other):
        running.begin(answer)
    assert (one.number, two.number, other.number) == (0, 1, 0)
    running.end(one)
    running.begin(one)
    assert (one.number, two.number) == (0, 1)
    assert running.of("b") == [other] and len(running.all()) == 3
