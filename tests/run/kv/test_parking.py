"""Ended conversations lie outside of llama.cpp's cells, cost nothing there, and come back as they were."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.run.engine import Engine
from nomoat.run.kv.parking import Parked, Parking
from nomoat.run.kv.prefix_tree import common_prefix
from nomoat.run.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=12)
TALES = [
    f"The keeper of the {place} counted all that passed in the night: one, two, three, four, five, six. "
    "In the morning he wrote the number into his book, drank his coffee, and went to sleep. Then he"
    for place in ("lighthouse", "bridge", "gate", "harbour", "garden", "mountain pass")
]
LISTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=10), max_size=10)


def _parked(tokens: Sequence[int]) -> Parked:
    return Parked((), list(tokens), np.zeros(len(tokens), np.uint8))


# -- which copy serves -------------------------------------------------------------------------------


@given(LISTS, st.lists(st.integers(0, 2), max_size=12))
def test_the_longest_beginning_is_found_in_the_smallest_copy(
    lists: list[list[int]], wanted: list[int]
) -> None:
    parking = Parking(1000)
    for tokens in lists:
        parking.put(_parked(tokens))
    length = max([0, *(common_prefix(tokens, wanted) for tokens in lists)])
    found = parking.longest((), wanted)
    assert (found[0] if found else 0) == length
    assert found is None or common_prefix(found[1].tokens, wanted) == length


@given(LISTS)
def test_what_another_goes_on_from_is_not_kept_beside_it(lists: list[list[int]]) -> None:
    parking = Parking(1000)
    for tokens in lists:
        parking.put(_parked(tokens))
    kept = {tuple(tokens) for place, tokens in enumerate(lists)
            if not any(later[: len(tokens)] == tokens for later in lists[place + 1 :])}  # fmt: skip
    assert parking.n_tokens == sum(map(len, kept))


@given(LISTS, st.lists(st.integers(0, 2), max_size=12), st.integers(0, 6))
def test_of_a_memory_that_cannot_be_cut_back_long_copies_serve_as_a_whole(
    lists: list[list[int]], wanted: list[int], cuttable: int
) -> None:
    parking = Parking(1000, cuttable_tokens=cuttable)
    for tokens in lists:
        parking.put(_parked(tokens))
    common = [(common_prefix(tokens, wanted), tokens) for tokens in lists]
    lengths = [length for length, tokens in common if len(tokens) <= cuttable or length == len(tokens)]
    found = parking.longest((), wanted)
    assert (found[0] if found else 0) == max(lengths, default=0)
    assert found is None or found[1].tokens[: found[0]] == wanted[: found[0]]


def test_copies_of_few_tokens_that_take_much_memory_have_a_bound_of_their_own() -> None:
    parking = Parking(1000, cuttable_tokens=0, most_bytes=250)
    for token in range(5):
        parking.put(Parked((), [token] * 3, np.zeros(100, np.uint8)))
    parking.put(Parked((), [9] * 3, np.zeros(251, np.uint8)))  # larger than all together
    assert [bool(parking.longest((), [token] * 3)) for token in (2, 3, 4, 9)] == [False, True, True, False]
    assert (parking.n_tokens, parking.n_bytes) == (6, 200)


def test_what_was_used_longest_ago_goes_first() -> None:
    parking = Parking(most_tokens=300)
    for token in (1, 2, 3):
        parking.put(_parked([token] * 100))
    assert parking.longest((), [1])
    parking.put(_parked([4] * 100))
    assert [bool(parking.longest((), [token])) for token in (1, 2, 3, 4)] == [True, False, True, True]
    parking.put(_parked([5] * 301))  # larger than all together
    assert parking.longest((), [5]) is None
    assert parking.n_tokens == parking.n_bytes == 300


# -- in the engine -----------------------------------------------------------------------------------


def _answer(engine: Engine, tokens: list[int], reuse: bool = True) -> tuple[list[int], int]:
    answer = engine.generate(tokens, GREEDY, reuse=reuse)
    made = [token for chunk in answer for token in chunk.token_ids]
    assert answer.result is not None
    assert answer.result.restored_tokens == 0  # not from disk
    return made, answer.result.cached_tokens


def test_every_conversation_is_remembered_and_only_one_lies_in_the_cells(engine: Engine) -> None:
    prompts = [engine.encode(tale) for tale in TALES]
    fresh = [_answer(engine, tokens, reuse=False)[0] for tokens in prompts]
    again = [_answer(engine, tokens) for tokens in prompts]
    assert again == [(made, len(tokens) - 1) for made, tokens in zip(fresh, prompts, strict=True)]
    stats = engine.stats()
    assert 0 < stats["kv_cells_used"] <= max(map(len, prompts)) + 12
    assert stats["kv_parked_bytes"] > 0


def test_a_conversation_goes_on_behind_what_others_asked_meanwhile(engine: Engine) -> None:
    tokens = engine.encode("Once there was a miller who had three sons, and when he died they")
    made, _ = _answer(engine, tokens)
    for tale in TALES[:3]:
        _answer(engine, engine.encode(tale))
    longer = tokens + made + engine.encode(" And then?")
    reused, cached = _answer(engine, longer)
    assert cached >= len(tokens) + len(made) - 1
    assert _answer(engine, longer, reuse=False)[0] == reused


@pytest.mark.parametrize("parked", [False, True])
def test_those_who_come_at_once_share_the_cells_of_their_common_beginning(
    engine: Engine, parked: bool
) -> None:
    """Of 512 cells four copies of this beginning would take more than there are."""
    common = engine.encode("You are a careful clerk. " * 40 + ("Always." if parked else "Never."))
    _answer(engine, common)
    if parked:
        _answer(engine, engine.encode(TALES[0]))
    prompts = [common + engine.encode(f" Number {number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda tokens: _answer(engine, tokens), prompts))
    assert all(cached >= len(common) - 1 for _, cached in answers)
    assert answers[2][0] == _answer(engine, prompts[2], reuse=False)[0]
