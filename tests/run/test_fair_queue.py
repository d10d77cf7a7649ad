"""Nobody waits for ever because somebody else sends much."""

from __future__ import annotations

from collections import Counter

import pytest

from nomoat.base.errors import OverloadedError
from nomoat.run.fair_queue import FairQueue


def _always(item: str) -> bool:
    return True


def _drain(queue: FairQueue[str]) -> list[str]:
    taken = []
    while (item := queue.pop(Counter(), _always)) is not None:
        taken.append(item)
    return taken


def _queue(*items: str, limit: int = 100) -> FairQueue[str]:
    """Items named by their client's letter."""
    queue: FairQueue[str] = FairQueue(limit)
    for item in items:
        queue.push(item, item[0])
    return queue


def test_clients_take_turns_and_each_keeps_its_order() -> None:
    assert _drain(_queue("a1", "a2", "a3", "b1", "c1", "b2")) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_whoever_has_fewer_running_comes_first() -> None:
    queue = _queue("a1", "b1")
    assert queue.pop(Counter(a=1), _always) == "b1"


def test_what_is_not_ready_is_passed_over_but_never_overtaken_by_its_own_client() -> None:
    queue = _queue("a1", "a2", "b1")
    assert queue.pop(Counter(), lambda item: item != "a1") == "b1"
    assert queue.pop(Counter(), lambda item: item != "a1") is None
    assert _drain(queue) == ["a1", "a2"]


def test_a_full_queue_refuses_and_says_so() -> None:
    queue = _queue("a1", "b1", limit=2)
    with pytest.raises(OverloadedError, match="2 requests wait") as refusal:
        queue.push("c1", "c")
    assert refusal.value.retry_after_seconds > 0
    assert len(queue) == 2


def test_what_was_taken_too_early_comes_back_first() -> None:
    queue = _queue("a1", "b1")
    first = queue.pop(Counter(), _always)
    assert first is not None
    queue.push_back(first, "a")
    assert _drain(queue) == ["a1", "b1"]


def test_discarded_items_are_gone() -> None:
    queue = _queue("a1", "b1", "a2")
    assert queue.discard(lambda item: item in {"a1", "b1"}) == ["a1", "b1"]
    assert (len(queue), _drain(queue)) == (1, ["a2"])


def test_what_was_passed_over_for_long_is_next_whoever_else_waits() -> None:
    now = 0.0
    queue: FairQueue[str] = FairQueue(100, lambda: now)
    for item in ("a large", "b1", "b2", "b3"):
        queue.push(item, item[0])
    is_small = "b".__le__
    assert queue.pop(Counter(), is_small) == "b1"
    now = 4.0
    assert queue.pop(Counter(), is_small) == "b2"
    now = 6.0
    assert queue.pop(Counter(), is_small) is None
    assert queue.pop(Counter(), _always) == "a large"
    assert queue.pop(Counter(), is_small) == "b3"
