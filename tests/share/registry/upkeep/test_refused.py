"""What was refused goes at once, and never what somebody else has a right to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nomoat.base.errors import OverloadedError
from nomoat.share.blobs.store import BlobInfo
from nomoat.share.names import RepoName
from nomoat.share.registry.git_objects import blob_oid
from nomoat.share.registry.history import AddFile
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.upkeep import refused
from nomoat.share.registry.upkeep.check import check
from nomoat.share.registry.upkeep.garbage import collect
from nomoat.share.registry.upkeep.refused import drop_refused


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    found = Registry(RegistryConfig(tmp_path))
    for name in ("ann", "ben"):
        found.accounts.add(name)
    yield found
    found.close()


def sent(registry: Registry, name: str, content: bytes = b"weights") -> BlobInfo:
    info = registry.blobs.add(content)
    registry.claims.note_sent(user(registry, name), info)
    return info


def user(registry: Registry, name: str) -> int:
    return registry.accounts.get(name).id


def test_it_goes_with_its_record_and_claim(registry: Registry) -> None:
    info = sent(registry, "ann")
    assert drop_refused(registry, user(registry, "ann"), info.digest)
    assert registry.store.info(info.digest) is None and registry.blobs.known(info.digest) is None
    assert registry.claims.held(registry.accounts.identity("ann"), info.digest) is None
    assert not drop_refused(registry, user(registry, "ann"), info.digest)


def test_it_stays_where_somebody_else_sent_it(registry: Registry) -> None:
    info = sent(registry, "ben")
    sent(registry, "ann")
    assert not drop_refused(registry, user(registry, "ann"), info.digest)
    assert registry.claims.held(registry.accounts.identity("ben"), info.digest) is not None
    assert registry.claims.held(registry.accounts.identity("ann"), info.digest) is None


def test_it_stays_where_a_repository_has_it(registry: Registry) -> None:
    who, info = registry.accounts.identity("ben"), sent(registry, "ben")
    repo = registry.repos.create(who, RepoName("model", "ben", "m"))
    registry.history.commit(
        repo, [AddFile("a.dat", info.digest, info.size_bytes, blob_oid(b"weights"))], who, "add"
    )
    with registry.database.write() as connection:
        connection.exec_driver_sql("delete from sent_blobs")
    sent(registry, "ann")
    assert not drop_refused(registry, user(registry, "ann"), info.digest)
    assert registry.store.info(info.digest) is not None


def test_somebody_who_sends_it_right_now_keeps_it_or_sends_it_again(registry: Registry) -> None:
    sent(registry, "ann")
    with registry.database.write() as connection:
        connection.exec_driver_sql("update sent_blobs set created_ms = created_ms - 5")
        connection.exec_driver_sql("update blobs set created_ms = created_ms - 5")
    info = registry.blobs.add(b"weights")  # by ben, who has no claim yet
    assert not drop_refused(registry, user(registry, "ann"), info.digest)
    registry.claims.note_sent(user(registry, "ben"), info)

    other = sent(registry, "ann", b"other weights")
    assert drop_refused(registry, user(registry, "ann"), other.digest)
    with pytest.raises(OverloadedError):
        registry.claims.note_sent(user(registry, "ben"), other)


def test_stopped_in_the_middle_it_leaves_a_sound_registry(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = sent(registry, "ann")

    def killed(*arguments: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(refused, "remove_unrecorded", killed)
        with pytest.raises(KeyboardInterrupt):
            drop_refused(registry, user(registry, "ann"), info.digest)
    assert registry.blobs.known(info.digest) is None and registry.store.info(info.digest) is not None
    assert check(registry).problems == ()
    assert collect(registry, grace_seconds=-1).unrecorded == 1 and registry.store.info(info.digest) is None
