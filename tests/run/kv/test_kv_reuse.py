"""What the KV memory holds already is not computed again, and changes no answer."""

from __future__ import annotations

import pytest

from nomoat.run.engine import Engine
from nomoat.run.kv.prefix_tree import common_prefix
from nomoat.run.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=12)
STORY = (
    "The lighthouse keeper counted the ships that passed in the night. One, two, three, four, five. In the "
    "morning he wrote the number into his book, drank his coffee, and went to sleep. The next night he counted"
)


def _answer(engine: Engine, tokens: list[int], reuse: bool = True) -> tuple[list[int], int]:
    answer = engine.generate(tokens, GREEDY, reuse=reuse)
    made = [token for chunk in answer for token in chunk.token_ids]
    assert answer.result is not None
    return made, answer.result.cached_tokens


def test_the_same_prompt_again_evaluates_one_token_only(engine: Engine) -> None:
    tokens = engine.encode(STORY)
    fresh, cached = _answer(engine, tokens, reuse=False)
    assert cached == 0
    again, cached = _answer(engine, tokens)
    assert cached == len(tokens) - 1
    assert again == fresh


def test_a_conversation_that_goes_on_evaluates_only_what_is_new(engine: Engine) -> None:
    tokens = engine.encode(STORY)
    made, _ = _answer(engine, tokens, reuse=False)
    longer = tokens + made + engine.encode(" And then?")
    fresh, _ = _answer(engine, longer, reuse=False)
    _answer(engine, tokens, reuse=False)
    reused, cached = _answer(engine, longer)
    assert cached >= len(tokens) + len(made) - 1
    assert reused == fresh


def test_a_prompt_that_parts_in_the_middle_keeps_the_common_beginning(engine: Engine) -> None:
    tokens = engine.encode(STORY)
    other = tokens[:30] + engine.encode(" the stars, and there were many of them; so he")
    _answer(engine, tokens)
    reused, cached = _answer(engine, other)
    assert cached == common_prefix(tokens, other) >= 30
    fresh, _ = _answer(engine, other, reuse=False)
    assert reused == fresh


def test_scoring_leaves_a_memory_that_can_be_reused(engine: Engine) -> None:
    tokens = engine.encode(STORY)
    fresh, _ = _answer(engine, tokens, reuse=False)
    engine.token_logprobs(tokens)
    reused, cached = _answer(engine, tokens)
    assert cached == len(tokens) - 1
    assert reused == fresh


def test_a_cancelled_answer_leaves_a_sound_memory(engine: Engine) -> None:
    tokens = engine.encode(STORY)
    fresh, _ = _answer(engine, tokens, reuse=False)
    answer = engine.generate(tokens, SamplingParams(temperature=0, max_tokens=300, ignore_end=True))
    next(answer)
    answer.close()
    reused, cached = _answer(engine, tokens)
    assert cached == len(tokens) - 1
    assert reused == fresh


@pytest.mark.parametrize(
    ("left", "right", "length"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 2, 3], 2), ([1, 5, 3], [1, 2, 3], 1)],
)
def test_the_common_prefix_of_two_lists(left: list[int], right: list[int], length: int) -> None:
    assert common_prefix(left, right) == length
