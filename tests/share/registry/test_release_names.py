"""`owner/name@v1` means one commit for ever, whatever is moved, deleted and made anew."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete

from nomoat.share.errors import ConflictError
from nomoat.share.names import RepoName
from nomoat.share.registry.schema import properties


def move(hub: Any, source: str, target: str) -> Any:
    names = [RepoName.parse("model", each) for each in (source, target)]
    return hub.registry.repos.move(hub.person("ann"), *names)


def released(hub: Any, name: str, content: bytes, tag: str = "v1") -> str:
    """A new repository of that name with one release; its commit."""
    repo = hub.repo(name)
    commit: str = hub.push(repo, {"a": content}).oid
    hub.registry.history.create_tag(repo, tag, immutable=True)
    return commit


def require_taken(hub: Any, name: str, tag: str = "v1") -> None:
    """That nothing new at `name` can be called so: no release, no tag, no branch."""
    repo, history = hub.repo(name), hub.registry.history
    hub.push(repo, {"a": b"another"})
    for make in (
        lambda: history.create_tag(repo, tag, immutable=True),
        lambda: history.create_tag(repo, tag),
        lambda: history.create_branch(repo, tag),
    ):
        with pytest.raises(ConflictError, match="release before"):
            make()
    assert [ref.name for ref in history.refs(repo)] == ["main"]


def test_every_name_that_a_released_repository_had_keeps_its_meaning(any_hub: Any) -> None:
    commit = released(any_hub, "ann/one", b"1")
    move(any_hub, "ann/one", "ann/two")
    moved = move(any_hub, "ann/two", "ann/three")
    assert any_hub.registry.history.resolve(moved, "v1").oid == commit
    for name in ("ann/one", "ann/two"):
        require_taken(any_hub, name)
    any_hub.registry.repos.delete(any_hub.person("ann"), moved.name, even_releases=True)
    require_taken(any_hub, "ann/three")


def test_a_repository_goes_where_it_was_and_nowhere_where_it_would_change_a_meaning(any_hub: Any) -> None:
    commit = released(any_hub, "ann/one", b"1")
    move(any_hub, "ann/one", "ann/two")
    released(any_hub, "ann/other", b"2")
    with pytest.raises(ConflictError, match="another release before"):
        move(any_hub, "ann/other", "ann/one")
    for name, make in (("tagged", "create_tag"), ("branched", "create_branch")):
        repo = any_hub.repo(f"ann/{name}")
        any_hub.push(repo, {"a": b"3"})
        getattr(any_hub.registry.history, make)(repo, "v1")
        with pytest.raises(ConflictError, match="was a release before"):
            move(any_hub, f"ann/{name}", "ann/one")
    back = move(any_hub, "ann/two", "ann/one")
    assert any_hub.registry.history.resolve(back, "v1").oid == commit


def test_releases_of_a_repository_that_was_moved_before_they_were_remembered(any_hub: Any) -> None:
    """As hubs have them whose repositories moved under an earlier version."""
    released(any_hub, "ann/one", b"1")
    moved = move(any_hub, "ann/one", "ann/two")
    with any_hub.registry.database.write() as connection:
        connection.execute(delete(properties).where(properties.c.name.startswith("release:")))
    any_hub.registry.repos.delete(any_hub.person("ann"), moved.name, even_releases=True)
    require_taken(any_hub, "ann/two")
