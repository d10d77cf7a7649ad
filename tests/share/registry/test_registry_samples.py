"""Sample chats in both databases: added with their entry in the log, ordered by version, removed in one step."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from nomoat.base.errors import NotFoundError
from nomoat.share.registry.schema import samples


def test_those_of_the_version_come_first(any_hub: Any) -> None:
    registry, repo = any_hub.registry, any_hub.repo("ann/model")
    first, second = any_hub.push(repo, {"a": b"1"}), any_hub.push(repo, {"a": b"2"})
    made = [registry.samples.add(repo, commit, {"prompt": "?", "answer": "é\x00\n", "temperature": 0.8, "n": number})
            for number, commit in enumerate((first, second, first))]  # fmt: skip
    assert [each.id for each in registry.samples.of(repo, first.oid)] == [made[n].id for n in (2, 0, 1)]
    assert [each.id for each in registry.samples.of(repo, second.oid, limit=2)] == [
        made[n].id for n in (1, 2)
    ]
    assert all(each.recorded for each in registry.samples.of(repo))
    assert registry.samples.numbers(repo, first) == [made[0].id, made[2].id]
    last = registry.samples.add(repo, first, {"prompt": "!"}, registry.samples.numbers(repo, first))
    assert [each.id for each in registry.samples.of(repo, first.oid)] == [last.id, made[1].id]
    assert registry.events.verify() == []


def test_a_chat_cannot_borrow_the_entry_of_another(any_hub: Any) -> None:
    registry, repo = any_hub.registry, any_hub.repo("ann/model")
    first, second = any_hub.push(repo, {"a": b"1"}), any_hub.push(repo, {"a": b"2"})
    made = registry.samples.add(repo, first, {"prompt": "?", "answer": "!"})
    changes: list[dict[str, Any]] = [{"commit": second.oid}, {"commit": first.oid}]
    changes[1]["content"] = {**made.content, "answer": "!!"}
    changes += [{"content": {"log_entry": odd}} for odd in (1, True, 1 << 70, ["x"], None)]
    for values in [*changes, {"content": [1]}]:
        with registry.database.write() as connection:
            connection.execute(update(samples).values(**values))
        assert [each.recorded for each in registry.samples.of(repo)] == [False]


def test_nothing_is_added_to_what_is_not_here(any_hub: Any) -> None:
    registry, repo = any_hub.registry, any_hub.repo("ann/model")
    commit = any_hub.push(repo, {"a": b"1"})
    registry.repos.delete(any_hub.person("ann"), repo.name)
    before = registry.events.head()
    with pytest.raises(NotFoundError, match="no longer here"):
        registry.samples.add(repo, commit, {"prompt": "?"})
    assert registry.events.head() == before
