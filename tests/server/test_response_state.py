"""Responses that are kept: private, bounded, and gone when they are deleted."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import pytest

from nomoat.base.errors import InputError, NotFoundError
from nomoat.server.responses.state import ResponseStore, Turn


def _turn(text: str, previous: str | None = None) -> Turn:
    item: dict[str, Any] = {"type": "message", "role": "user", "content": text}
    answer = {"type": "message", "role": "assistant", "content": text.upper()}
    identity = f"resp_{secrets.token_hex(16)}"
    return Turn([item], {"id": identity, "previous_response_id": previous, "output": [answer]})


def _texts(items: list[dict[str, Any]]) -> list[str]:
    return [item["content"] for item in items]


def test_turns_come_back_in_their_order(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    first = _turn("a")
    second = _turn("b", first.response["id"])
    for turn in (first, second):
        store.write(turn)
    assert _texts(store.conversation(second.response["id"])) == ["a", "A", "b", "B"]
    assert _texts(ResponseStore(tmp_path).conversation(first.response["id"])) == ["a", "A"]
    assert store.conversation(None) == []


def test_a_deleted_turn_ends_the_conversation_and_leaves_no_text(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    first = _turn("secret words")
    second = _turn("b", first.response["id"])
    for turn in (first, second):
        store.write(turn)
    store.remove(first.response["id"])
    with pytest.raises(InputError, match="not kept"):
        store.conversation(second.response["id"])
    assert not any("secret words" in path.read_text() for path in (tmp_path / "responses").iterdir())
    with pytest.raises(NotFoundError):
        store.remove(first.response["id"])


def test_the_turns_that_were_not_used_for_the_longest_time_go_first(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path, most_bytes=3000)
    turns = [_turn("x" * 500) for _ in range(2)]
    for age, turn in enumerate(turns):
        store.write(turn)
        path = tmp_path / "responses" / f"{turn.response['id']}.json"
        os.utime(path, (1000 + age, 1000 + age))
    store.read(turns[0].response["id"])  # now the other one is the oldest
    store.write(_turn("y" * 600))
    assert store.read(turns[0].response["id"]) == turns[0]
    with pytest.raises(NotFoundError):
        store.read(turns[1].response["id"])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"input": 1}', "null"])
def test_a_damaged_file_is_no_turn(tmp_path: Path, content: str) -> None:
    store, turn = ResponseStore(tmp_path), _turn("a")
    store.write(turn)
    path = tmp_path / "responses" / f"{turn.response['id']}.json"
    path.write_text(content)
    with pytest.raises(NotFoundError):
        store.read(turn.response["id"])
    assert not path.exists()


@pytest.mark.parametrize("name", ["", "resp_", "../x", "resp_" + "a" * 31 + "/", "resp_" + "A" * 32])
def test_other_names_are_never_looked_up(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError):
        ResponseStore(tmp_path).read(name)
