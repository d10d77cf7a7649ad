"""Releases: what others rely on does not change and does not vanish by the way."""

from __future__ import annotations

import pytest
from trust_hub import Hub

from nomoat.share.errors import ConflictError, ForbiddenError


def test_a_release_stays(hub: Hub) -> None:
    history, repo = hub.registry.history, hub.repo()
    hub.commit(repo, {"a": b"1"})
    history.create_tag(repo, "v1", immutable=True)
    hub.commit(repo, {"a": b"2"})
    with pytest.raises(ForbiddenError, match="release"):
        history.delete_ref(repo, "v1", is_tag=True)
    with pytest.raises(ConflictError):
        history.create_tag(repo, "v1", immutable=True)
    with pytest.raises(ForbiddenError, match="v1"):
        hub.registry.repos.delete(hub.me, repo.name)
    assert history.resolve(hub.again(repo), "v1")


def test_the_name_of_a_deleted_release_is_not_given_again(hub: Hub) -> None:
    history, repo = hub.registry.history, hub.repo()
    first = hub.commit(repo, {"a": b"1"})
    history.create_tag(repo, "v1", immutable=True)
    hub.registry.repos.delete(hub.me, repo.name, even_releases=True)
    assert hub.registry.events.since(0, ["delete"])[0].payload["releases"] == {"v1": first.oid}
    again = hub.repo()
    hub.commit(again, {"a": b"something else"})
    with pytest.raises(ConflictError, match="another release"):
        history.create_tag(again, "v1", immutable=True)
    history.create_tag(again, "v2", immutable=True)
    assert hub.registry.events.verify() == []


def test_a_repository_without_releases_is_deleted_as_ever(hub: Hub) -> None:
    repo = hub.repo()
    hub.commit(repo, {"a": b"1"})
    hub.registry.history.create_tag(repo, "nightly")
    hub.registry.repos.delete(hub.me, repo.name)
