"""A hub's folder, database and blobs: kept, and never mixed up with those of another hub."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest

from nomoat.base.errors import InputError
from nomoat.cli.hub_root import registry_config
from nomoat.share.names import RepoName
from nomoat.share.registry.git_objects import blob_oid
from nomoat.share.registry.history import AddFile
from nomoat.share.registry.places import read_places
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.upkeep.backup import back_up, restore
from nomoat.share.registry.upkeep.check import check
from own_servers import ObjectServer, PostgresCluster

Opened = Callable[..., contextlib.AbstractContextManager[Registry]]


@pytest.fixture
def opened(
    s3: ObjectServer, postgresql: PostgresCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Opened:
    """Opens the hub in a folder of the test as the command line does."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)

    @contextlib.contextmanager
    def make(folder: str = "hub", database: str = "", bucket: str = "") -> Iterator[Registry]:
        bucket = bucket and f"s3://hub/{tmp_path.name}-{bucket}"
        with contextlib.closing(Registry(registry_config(tmp_path / folder, database, bucket))) as registry:
            yield registry

    return make


@pytest.fixture
def far(opened: Opened, postgresql: PostgresCluster) -> str:
    """A hub in the folder `hub`, on the bucket `one`, with a person and a file; the URL of its database."""
    url = postgresql.new_database()
    with opened(database=url, bucket="one") as registry:
        registry.accounts.add("ines")
        registry.blobs.add(b"something")
    return url


def test_a_hub_finds_its_places_again(opened: Opened, far: str, tmp_path: Path) -> None:
    with opened() as registry:
        assert not registry.database.is_sqlite and registry.accounts.find("ines") is not None
        assert [each.size_bytes for each in registry.store.all()] == [9]
    assert (tmp_path / "hub" / "places.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("case", ["another bucket", "another database", "no bucket", "its own database gone"])
def test_other_places_are_refused_and_forgotten(
    opened: Opened, far: str, postgresql: PostgresCluster, tmp_path: Path, case: str
) -> None:
    kept = read_places(tmp_path / "hub")
    given = {
        "another bucket": {"bucket": "two"}, "another database": {"database": postgresql.new_database()},
        "no bucket": {"folder": "new", "database": far}, "its own database gone": {"folder": "new", "bucket": "one"},
    }[case]  # fmt: skip
    with pytest.raises(InputError) as refused, opened(**given):
        pass
    assert "--bucket" in (refused.value.hint or "")
    assert read_places(tmp_path / "hub") == kept and not (tmp_path / "new" / "places.json").exists()
    with opened() as registry:
        assert check(registry).problems == ()


def test_two_hubs_are_not_crossed(opened: Opened, far: str, postgresql: PostgresCluster) -> None:
    other = postgresql.new_database()
    with opened("other", other, "two"):
        pass
    for given in ({"database": far}, {"bucket": "one"}, {"database": far, "bucket": "one"}):
        with pytest.raises(InputError), opened("other", **given):
            pass
    with opened("other"), opened():
        pass


def test_a_hub_in_a_folder_stays_there(opened: Opened, postgresql: PostgresCluster, tmp_path: Path) -> None:
    with opened() as registry:
        registry.accounts.add("ines")
    for given in ({"database": postgresql.new_database()}, {"bucket": "two"}):
        with pytest.raises(InputError), opened(**given):
            pass
    (tmp_path / "hub" / "blobs").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="disk is missing"), opened():
        pass


def test_a_second_folder_needs_the_hubs_key(opened: Opened, far: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="key with which") as refused, opened("second", far, "one"):
        pass
    assert "keys/" in (refused.value.hint or "")
    shutil.copytree(tmp_path / "hub" / "keys", tmp_path / "second" / "keys")
    with opened("second", far, "one") as registry:
        registry.accounts.add("marek")
    with opened() as registry:
        assert check(registry).problems == () and registry.accounts.find("marek") is not None


def test_many_may_start_a_new_hub_at_once(opened: Opened, postgresql: PostgresCluster) -> None:
    url = postgresql.new_database()

    def start(number: int) -> str:
        with opened(database=url, bucket="many") as registry:
            return registry.store.mark()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(4)))) == 1


def test_a_start_that_broke_off_can_be_repeated(opened: Opened, postgresql: PostgresCluster) -> None:
    with pytest.raises(InputError), opened(database="postgresql://nobody@/none?host=/nowhere", bucket="half"):
        pass
    with opened(database=postgresql.new_database(), bucket="half"):
        pass


def test_an_older_hub_gets_its_mark(tmp_path: Path) -> None:
    config = RegistryConfig(tmp_path / "hub")
    with contextlib.closing(Registry(config)) as registry:
        registry.blobs.add(b"something")
        with registry.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM properties WHERE name LIKE 'hub_%'")
    for name in ("places.json", "blobs/hub-id"):
        os.remove(tmp_path / "hub" / name)
    with contextlib.closing(Registry(config)) as registry:
        assert registry.store.mark() == read_places(tmp_path / "hub").hub != ""


def test_a_restored_hub_is_the_same_hub(tmp_path: Path) -> None:
    with contextlib.closing(Registry(RegistryConfig(tmp_path / "hub"))) as registry:
        mark = registry.store.mark()
        back_up(registry, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "again")
    with contextlib.closing(Registry(RegistryConfig(tmp_path / "again"))) as registry:
        assert registry.store.mark() == mark


def test_a_backup_of_far_places_says_how_it_is_made(opened: Opened, far: str, tmp_path: Path) -> None:
    with opened() as registry, pytest.raises(InputError) as refused:
        back_up(registry, tmp_path / "backup")
    assert "pg_dump" in (refused.value.hint or "") and not (tmp_path / "backup").exists()


def test_a_hub_of_a_dump_and_a_copied_bucket(
    opened: Opened, far: str, s3: ObjectServer, postgresql: PostgresCluster, tmp_path: Path
) -> None:
    """As docs/how-to/run-a-hub.md says; the bucket is copied here without another program."""
    with opened() as registry:
        who = registry.accounts.identity("ines", "write")
        repo = registry.repos.create(who, RepoName.parse("model", "ines/model"))
        info = registry.blobs.add(b"weights")
        registry.history.commit(repo, [AddFile("w", info.digest, 7, blob_oid(b"weights"))], who, "first")
    dump, again = tmp_path / "hub.dump", postgresql.new_database("TEMPLATE template0 ENCODING 'UTF8'")
    _run(postgresql.program("pg_dump"), "--format", "custom", "--file", dump, far)
    copied = s3.store(f"{tmp_path.name}-copy")
    for part in obstore.list(source := s3.store(f"{tmp_path.name}-one")):
        for each in part:
            obstore.put(copied, each["path"], bytes(obstore.get(source, each["path"]).bytes()))
    _run(postgresql.program("pg_restore"), "--no-owner", "--dbname", again, dump)
    shutil.copytree(tmp_path / "hub" / "keys", tmp_path / "again" / "keys")
    with opened("again", again, "copy") as registry:
        found = check(registry)
        assert found.problems == () and (found.repos, found.commits, found.blobs) == (1, 1, 1)
        registry.accounts.add("marek")
    with opened() as registry:
        assert registry.accounts.find("marek") is None


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, timeout=60)
