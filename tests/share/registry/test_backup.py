"""Backups: whole, incremental, private, and refused where they are not what was backed up."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import pytest

from conftest import Hub
from nomoat.base.errors import InputError, NomoatError, NotFoundError
from nomoat.base.progress import Silent
from nomoat.share.registry.backup import back_up, restore
from nomoat.share.registry.check import check
from nomoat.share.registry.registry import Registry, RegistryConfig


def test_restored_hub_is_the_same(hub: Hub, tmp_path: Path) -> None:
    repo = hub.repo("ines/model", private=True)
    commit = hub.push(repo, {"weights.bin": b"w" * 3_000_000, "README.md": b"# hello"})
    hub.add(b"sent, but in no commit")
    first = back_up(hub.registry, tmp_path / "backup", Silent())
    later = hub.push(repo, {"more.bin": b"more"})
    second = back_up(hub.registry, tmp_path / "backup", Silent())
    assert (first.copied_blobs, second.copied_blobs, second.blobs) == (2, 1, 3)

    restored = restore(tmp_path / "backup", tmp_path / "new", Silent())
    assert restored.blobs == 3
    with contextlib.closing(Registry(RegistryConfig(tmp_path / "new"))) as registry:
        assert check(registry, Silent()).problems == []
        log = registry.history.log(registry.repos.get(registry.accounts.identity("ines"), repo.name))
        assert [each.oid for each in log] == [later.oid, commit.oid]
        assert registry.events.key.public == hub.registry.events.key.public


def test_keys_are_for_the_owner_alone(hub: Hub, tmp_path: Path) -> None:
    hub.push(hub.repo("ines/model"), {"a": b"a"})
    back_up(hub.registry, tmp_path / "backup", Silent())
    restore(tmp_path / "backup", tmp_path / "new", Silent())
    for folder in ("backup", "new"):
        keys = list((tmp_path / folder / "keys").iterdir())
        assert keys
        assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


def test_refuses_what_is_not_whole(hub: Hub, tmp_path: Path) -> None:
    hub.push(hub.repo("ines/model"), {"a": b"a" * 5000})
    backup = tmp_path / "backup"
    back_up(hub.registry, backup, Silent())
    with pytest.raises(InputError, match="already"):
        restore(backup, hub.registry.config.root, Silent())

    blob = next(path for path in backup.glob("blobs/sha256/??/??/*") if path.stat().st_size == 5000)
    blob.write_bytes(b"b" * 5000)
    with pytest.raises(NomoatError, match="differs"):
        restore(backup, tmp_path / "new", Silent())
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".new*"))

    (backup / "hub.db").write_bytes(b"something else")
    with pytest.raises(NomoatError, match="differs"):
        restore(backup, tmp_path / "new", Silent())
    (backup / "manifest.json").unlink()
    with pytest.raises(NotFoundError):
        restore(backup, tmp_path / "new", Silent())
