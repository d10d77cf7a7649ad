"""The event log: whatever is changed, left out or moved in it is found."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, update
from trust_hub import Hub

from nomoat.share.registry.event_log import EventLog
from nomoat.share.registry.schema import events


def test_what_people_do_is_logged_and_the_log_holds(hub: Hub) -> None:
    registry = hub.registry
    repo = hub.repo()
    hub.commit(repo, {"a.txt": b"a"})
    registry.history.create_tag(repo, "v1", immutable=True)
    token = registry.accounts.add_token("me", "laptop", "write")
    registry.accounts.revoke_token("me", registry.accounts.tokens("me")[0].id)
    registry.repos.move(hub.me, repo.name, hub.name("me/diary"))
    registry.repos.delete(hub.me, hub.name("me/diary"), even_releases=True)
    kinds = [event.kind for event in registry.events.since(0)]
    assert kinds == ["commit", "release", "token", "token-revoked", "move", "delete"]
    assert token not in str(registry.events.since(0))
    assert registry.events.verify() == []
    key_file = registry.config.root / "keys" / "hub.pem"
    assert key_file.stat().st_mode & 0o777 == 0o600


def test_tampering_is_found(hub: Hub) -> None:
    log = hub.registry.events
    for number in range(5):
        log.append("test", {"number": number, "name": "Zoë"})
    noted = dict([log.head()])
    database = hub.registry.database
    with database.write() as connection:
        connection.execute(update(events).where(events.c.seq == 2).values(payload={"number": 7}))
    assert log.verify() == ["entry 2 was changed"]
    with database.write() as connection:
        connection.execute(
            update(events).where(events.c.seq == 2).values(payload={"number": 1, "name": "Zoë"})
        )
    assert log.verify(noted) == []
    with database.write() as connection:
        connection.execute(delete(events).where(events.c.seq == 3))
    assert log.verify() == ["entry 4 does not follow the one before"]
    with database.write() as connection:
        connection.execute(delete(events).where(events.c.seq >= 3))
    assert log.verify() == []  # nobody noted where it ended
    assert log.verify(noted) == ["entry 5 is missing: the log ends at 2"]


def test_another_hubs_key_does_not_fit(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> None:
    hub.registry.events.append("test", {})
    other = EventLog(hub.registry.database, tmp_path_factory.mktemp("other"))
    assert hub.registry.events.verify(key=other.key.public) == ["entry 1 is not signed with the hub's key"]


def test_writers_at_once_make_one_chain(hub: Hub) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: hub.registry.events.append("test", {"n": number}), range(40)))
    assert hub.registry.events.verify() == [] and hub.registry.events.head()[0] == 40


def test_an_event_of_a_commit_that_fails_is_not_logged(hub: Hub) -> None:
    repo = hub.repo()
    hub.commit(repo, {"a": b"a"})
    before = hub.registry.events.head()
    with pytest.raises(Exception, match="differ only in case"):
        hub.commit(repo, {"A": b"a"})
    assert hub.registry.events.head() == before
