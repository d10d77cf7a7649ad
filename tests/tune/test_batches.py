"""Which documents make up which step: every document once in an epoch, no step without one, the same for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.tune.batches import Batches, split_micro

LENGTHS = st.lists(st.integers(2, 3000), min_size=1, max_size=60)
BATCH_TOKENS = st.integers(16, 4096)


@given(LENGTHS, BATCH_TOKENS, st.integers(0, 2**63 - 1), st.integers(0, 5))
def test_an_epoch_visits_every_document_once(
    lengths: list[int], batch_tokens: int, seed: int, epoch: int
) -> None:
    batches = Batches(lengths, batch_tokens, seed)
    first = epoch * batches.steps_per_epoch
    visited = [i for step in range(first, first + batches.steps_per_epoch) for i in batches.step(step)]
    assert sorted(visited) == list(range(len(lengths)))


@given(LENGTHS, BATCH_TOKENS, st.integers(0, 99))
def test_no_step_is_empty(lengths: list[int], batch_tokens: int, seed: int) -> None:
    batches = Batches(lengths, batch_tokens, seed)
    assert all(batches.step(number) for number in range(batches.steps_per_epoch))


def test_documents_longer_than_a_step_get_a_step_each() -> None:
    batches = Batches([1000] * 5, 256, 0)
    assert batches.steps_per_epoch == 5
    assert [len(batches.step(number)) for number in range(5)] == [1] * 5


@given(st.lists(st.integers(2, 200), min_size=1, max_size=80), st.integers(0, 99))
def test_steps_hold_about_as_many_tokens_as_asked_for(lengths: list[int], seed: int) -> None:
    batches = Batches(lengths, 400, seed)
    for number in range(batches.steps_per_epoch):
        tokens = sum(lengths[i] for i in batches.step(number))
        # An epoch is shared out evenly, which is off by a third at most; a document lies in one step only.
        assert tokens <= 400 * 1.5 + 200


@given(LENGTHS, BATCH_TOKENS, st.integers(0, 99), st.data())
def test_a_step_depends_on_nothing_but_its_number(
    lengths: list[int], batch_tokens: int, seed: int, data: st.DataObject
) -> None:
    # A resume asks for step 7 first, an uninterrupted run after the six before it.
    number = data.draw(st.integers(0, 200))
    in_order = Batches(lengths, batch_tokens, seed)
    for earlier in range(number):
        in_order.step(earlier)
    assert in_order.step(number) == Batches(lengths, batch_tokens, seed).step(number)


def test_each_epoch_and_each_seed_has_its_own_order() -> None:
    lengths = [10] * 40
    batches, other = Batches(lengths, 100, 0), Batches(lengths, 100, 1)
    assert batches.step(0) != batches.step(batches.steps_per_epoch)
    assert batches.step(0) != other.step(0)


@given(LENGTHS, st.integers(1, 4096))
def test_micro_batches_hold_every_document_once_and_no_more_tokens_than_fit(
    lengths: list[int], most: int
) -> None:
    parts = split_micro(range(len(lengths)), lengths, most)
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or sum(lengths[i] for i in part) <= most


@pytest.mark.parametrize("most", [1, 100])
def test_a_document_beyond_the_limit_is_a_micro_batch_of_its_own(most: int) -> None:
    assert split_micro([0, 1], [500, 600], most) == [[0], [1]]


def test_micro_batches_put_like_lengths_together() -> None:
    assert split_micro([0, 1, 2, 3], [90, 10, 95, 12], 120) == [[1, 3, 0], [2]]
