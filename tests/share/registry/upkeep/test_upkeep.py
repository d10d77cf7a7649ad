"""What keeps a registry well: garbage collection, fsck, backup and restore."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, text, update

from nomoat.base.errors import BadFileError, InputError, NotFoundError, OverloadedError
from nomoat.base.work_folders import work_folder
from nomoat.share.errors import DamagedBlobError
from nomoat.share.registry.history import DeletePath
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.samples import WORK_FOLDER
from nomoat.share.registry.schema import (
    blobs,
    commits,
    discussions,
    refs,
    repo_blobs,
    repos,
    samples,
    tree_entries,
)
from nomoat.share.registry.upkeep import garbage
from nomoat.share.registry.upkeep.backup import MANIFEST, back_up, restore
from nomoat.share.registry.upkeep.check import check
from nomoat.share.registry.upkeep.garbage import collect
from nomoat.share.registry.upkeep.repair import repair


def kinds(registry: Registry, **options: bool) -> set[str]:
    return {problem.kind for problem in check(registry, **options).problems}


# -- garbage collection ------------------------------------------------------------------------------


def test_what_a_repository_holds_or_held_stays(any_hub: Any) -> None:
    repo = any_hub.repo("ann/one")
    first = any_hub.push(repo, {"a.bin": b"first", "folder/b.bin": b"second"})
    any_hub.registry.history.commit(repo, [DeletePath("a.bin")], any_hub.person("ann"), "without a")
    lost = any_hub.add(b"never committed")
    assert collect(any_hub.registry).blobs == 0  # it may still be on its way
    assert collect(any_hub.registry, grace_seconds=-1, dry_run=True).blobs == 1
    assert any_hub.registry.blobs.known(lost.digest) is not None
    found = collect(any_hub.registry, grace_seconds=-1)
    assert (found.blobs, found.bytes) == (1, len(b"never committed"))
    assert any_hub.registry.store.info(lost.digest) is None
    entry = any_hub.registry.history.entry(first, "a.bin")
    with any_hub.registry.store.open(entry.digest) as reader:
        assert reader.read() == b"first"
    assert check(any_hub.registry).problems == ()


def test_a_deleted_repository_leaves_nothing(any_hub: Any) -> None:
    shared, gone = any_hub.repo("ann/shared"), any_hub.repo("ann/gone")
    any_hub.push(shared, {"same/x": b"shared"})
    any_hub.push(gone, {"same/x": b"shared", "deep/er/own": b"own"})
    any_hub.registry.repos.delete(any_hub.person("ann"), gone.name)
    found = collect(any_hub.registry, grace_seconds=-1)
    assert found.blobs == 1 and found.trees == 4  # the root's two rows, deep, er
    assert check(any_hub.registry).problems == ()


def test_what_crashes_left_goes(hub: Any) -> None:
    with hub.registry.store.incoming() as incoming:
        incoming.write(b"never recorded")
        info = incoming.finish()
    (hub.registry.config.root / "blobs" / "incoming" / "old.part").write_bytes(b"half")
    with work_folder(hub.registry.config.root / WORK_FOLDER) as lives:
        (hub.registry.config.root / WORK_FOLDER / "killed").mkdir()
        found = collect(hub.registry, grace_seconds=-1)
        assert list((hub.registry.config.root / WORK_FOLDER).iterdir()) == [lives]
    assert (found.unrecorded, found.unfinished) == (1, 2)
    assert hub.registry.store.info(info.digest) is None


def test_a_blob_whose_checksums_were_cleared_away_is_sent_again(hub: Any) -> None:
    """Both were removed between the moments at which an upload wrote the one and the other."""
    with hub.registry.store.incoming() as incoming:
        incoming.write(b"sent again")
        info = incoming.finish()
    path = hub.registry.store.path(info.digest)
    path.with_name(f"{path.name}.sums").unlink()
    with pytest.raises(OverloadedError, match="cleared away"):
        hub.registry.blobs.record(info)
    assert hub.registry.blobs.known(info.digest) is None
    hub.registry.blobs.add(b"sent again")
    assert hub.registry.blobs.known(info.digest) is not None


def test_who_sends_the_same_in_the_moment_it_goes_learns_it(hub: Any) -> None:
    """The file is written, then collection takes it, then it is recorded."""
    hub.registry.blobs.add(b"twice")
    with hub.registry.store.incoming() as incoming:
        incoming.write(b"twice")
        info = incoming.finish()
    assert collect(hub.registry, grace_seconds=-1).blobs == 1
    with pytest.raises(OverloadedError, match="cleared away"):
        hub.registry.blobs.record(info)
    assert hub.registry.blobs.known(info.digest) is None


def test_a_commit_in_the_middle_saves_its_files(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repo, file = hub.repo("ann/late"), hub.add(b"just in time")
    found = garbage._candidates(hub.registry, 1 << 60, False)
    hub.registry.history.commit(repo, [file], hub.person("ann"), "in between")
    monkeypatch.setattr(garbage, "_candidates", lambda *arguments: found)
    assert collect(hub.registry, grace_seconds=3600).blobs == 0
    assert check(hub.registry).problems == ()


def test_pushes_and_collections_at_once_lose_nothing(any_hub: Any) -> None:
    repo, stop = any_hub.repo("ann/busy"), threading.Event()

    def clear() -> None:
        while not stop.is_set():
            collect(any_hub.registry, grace_seconds=3600)

    thread = threading.Thread(target=clear)
    thread.start()
    try:
        for number in range(15):
            any_hub.push(repo, {f"folder{number % 3}/{number}": b"%d" % number})
    finally:
        stop.set()
        thread.join()
    assert len(any_hub.registry.history.files(any_hub.registry.history.resolve(repo))) == 18
    assert check(any_hub.registry).problems == ()


def test_a_deleted_branch_frees_what_only_it_had(any_hub: Any) -> None:
    registry, ann = any_hub.registry, any_hub.person("ann")
    repo, history = any_hub.repo("ann/one"), any_hub.registry.history
    first = any_hub.push(repo, {"a.bin": b"kept", "deep/b.bin": b"kept, too"})
    history.create_branch(repo, "try")
    tried = any_hub.push(repo, {"try.bin": b"only tried"}, branch="try")
    any_hub.push(repo, {"try.bin": b"only tried, again"}, branch="try")
    assert collect(registry, grace_seconds=-1).commits == 0
    history.delete_ref(repo, "try", is_tag=False)
    assert collect(registry).commits == 0, "it was deleted a moment ago"
    would = collect(registry, grace_seconds=-1, dry_run=True)
    assert (would.commits, would.blobs) == (2, 2) and history.resolve(repo, tried.oid) == tried
    found = collect(registry, grace_seconds=-1)
    assert (found.commits, found.blobs, found.bytes) == (2, 2, len(b"only tried" + b"only tried, again"))
    with pytest.raises(NotFoundError):
        history.resolve(repo, tried.oid)
    assert history.resolve(repo).oid == first.oid and len(history.log(repo)) == 1
    assert check(registry).problems == ()
    assert registry.claims.held(ann, any_hub.add(b"kept").digest) is not None


def test_what_a_tag_a_discussion_or_a_child_holds_stays(any_hub: Any) -> None:
    registry, repo, history = any_hub.registry, any_hub.repo("ann/one"), any_hub.registry.history
    any_hub.push(repo, {"a.bin": b"main"})
    held = {}
    for name in ("tagged", "discussed", "sampled", "lost"):
        history.create_branch(repo, name)
        any_hub.push(repo, {"early.bin": b"before " + name.encode()}, branch=name)
        held[name] = any_hub.push(repo, {"late.bin": name.encode()}, branch=name)
    history.create_tag(repo, "v1", "tagged", immutable=True)
    comment = {"author": "bob", "text": f"Why {held['discussed'].oid[:10]}?", "created_ms": 1}
    rows = {"repo_id": repo.id, "number": 1, "title": "A question", "author": "bob", "created_ms": 1}
    sample = {"repo_id": repo.id, "commit": held["sampled"].oid, "content": {}, "created_ms": 1}
    with registry.database.write() as connection:
        connection.execute(insert(discussions).values(**rows, comments=[comment]))
        connection.execute(insert(samples).values(sample))
    for name in held:
        history.delete_ref(repo, name, is_tag=False)
    assert (found := collect(registry, grace_seconds=-1)).commits == 2 and found.blobs == 2
    for name in ("tagged", "discussed", "sampled"):
        files = history.files(history.resolve(repo, held[name].oid))
        assert [entry.path for entry in files] == ["a.bin", "early.bin", "late.bin"]
    with registry.store.open(history.entry(history.resolve(repo, "v1"), "late.bin").digest) as reader:
        assert reader.read() == b"tagged"
    assert check(registry).problems == ()


# -- fsck --------------------------------------------------------------------------------------------


@pytest.fixture
def filled(any_hub: Any) -> Any:
    repo = any_hub.repo("ann/one")
    any_hub.push(repo, {"a.bin": b"a" * 2_000_000, "folder/b.bin": b"b"})
    any_hub.push(repo, {"c.bin": b"c"}, "second")
    assert check(any_hub.registry).problems == ()
    any_hub.only = repo
    return any_hub


def largest(hub: Any) -> Path:
    return max(
        (hub.registry.config.root / "blobs" / "sha256").glob("??/??/*"), key=lambda path: path.stat().st_size
    )


def test_a_flipped_bit_is_found_and_marked(filled: Any) -> None:
    path = largest(filled)
    content = bytearray(path.read_bytes())
    content[1_500_000] ^= 1
    path.write_bytes(content)
    assert kinds(filled.registry, quick=True) == set()
    [problem] = check(filled.registry).problems
    assert problem.kind == "blob" and path.name in problem.what
    with filled.registry.database.read() as connection:
        assert (
            connection.scalar(blobs.select().where(blobs.c.damaged).with_only_columns(blobs.c.digest))
            == problem.what
        )


def test_who_still_reads_what_was_replaced_marks_nothing(filled: Any) -> None:
    """A long download may meet the damage after the file was sent again, whole."""
    path, digest = largest(filled), f"sha256:{largest(filled).name}"
    path.write_bytes(b"b" + path.read_bytes()[1:])
    for sent_again in (True, False):
        time.sleep(0.005)  # the registry's clock has milliseconds
        with pytest.raises(DamagedBlobError), filled.registry.blobs.open(digest) as reader:
            if sent_again:
                time.sleep(0.005)
                filled.add(b"a" * 2_000_000)
            reader.read()
        assert filled.registry.blobs.damaged_among([digest]) == (set() if sent_again else {digest})
        path.write_bytes(b"b" + path.read_bytes()[1:])


def test_what_is_missing_or_cut_is_found_quickly(filled: Any) -> None:
    path = largest(filled)
    path.write_bytes(path.read_bytes()[:-1])
    assert kinds(filled.registry, quick=True) == {"blob"}
    path.unlink()
    [problem] = check(filled.registry, quick=True).problems
    assert problem.problem == "is missing"


def test_a_database_that_was_tampered_with_is_found(filled: Any) -> None:
    changes = {
        "tree": update(tree_entries).where(tree_entries.c.name == "b.bin").values(oid="0" * 40),
        "commit": update(commits).where(commits.c.title == "second").values(title="other"),
        "ref": update(refs).values(commit="1" * 40),
    }
    for kind, change in changes.items():
        with filled.registry.database.write() as connection:
            connection.execute(change)
        assert kind in kinds(filled.registry, quick=True)
    with filled.registry.database.write() as connection:
        connection.execute(delete(tree_entries).where(tree_entries.c.name == "b.bin"))
    assert {"tree", "commit"} <= kinds(filled.registry, quick=True)


# -- repair ------------------------------------------------------------------------------------------


def test_what_follows_from_the_rest_is_made_anew(filled: Any) -> None:
    registry, path = filled.registry, largest(filled)
    sums = path.with_name(path.name + ".sums")
    sums.write_bytes(bytes([sums.read_bytes()[0] ^ 1]) + sums.read_bytes()[1:])
    assert kinds(registry) == {"blob"}, "the file is whole, but could not be served"
    small = registry.history.entry(registry.history.resolve(filled.only), "c.bin").digest
    with registry.database.write() as connection:
        connection.execute(delete(repo_blobs).where(repo_blobs.c.digest == small))
        connection.execute(delete(blobs).where(blobs.c.digest == small))
        connection.execute(update(repos).values(head="2" * 40))
        connection.execute(text("DELETE FROM repos_search"))
    assert {"repo", "search", "blob"} <= kinds(registry)
    done = {(each.kind, each.done.split(" ")[0]) for each in repair(registry)}
    assert {("repo", "shows"), ("repo", "has"), ("search", "made"), ("blob", "its"), ("blob", "it")} == done
    assert check(registry).problems == () and repair(registry) == ()
    with registry.store.open(f"sha256:{path.name}") as reader:
        assert reader.read() == b"a" * 2_000_000


def test_half_records_go_and_the_only_copy_of_anything_stays(filled: Any) -> None:
    registry, path = filled.registry, largest(filled)
    content = bytearray(path.read_bytes())
    content[1_500_000] ^= 1
    path.write_bytes(content)
    half = filled.add(b"sent, never committed").digest
    lost = registry.history.entry(registry.history.resolve(filled.only), "c.bin").digest
    for digest in (half, lost):
        registry.store.delete(digest)
    [only] = repair(registry)
    assert (only.kind, only.what) == ("blob", half) and "no file" in only.done
    assert path.read_bytes() == content, "whoever has a backup may mend it"
    problems = {problem.what: problem.problem for problem in check(registry).problems}
    assert problems.keys() == {f"sha256:{path.name}", lost} and problems[lost] == "is missing"
    filled.add(b"c")
    assert {problem.what for problem in check(registry).problems} == {f"sha256:{path.name}"}


# -- backup and restore ------------------------------------------------------------------------------


def test_a_restored_hub_is_the_same(hub: Any, tmp_path: Path) -> None:
    repo = hub.repo("ann/one")
    hub.push(repo, {"a.bin": b"a" * 3_000_000})
    token = hub.registry.accounts.add_token("ann", "t")
    first = back_up(hub.registry, tmp_path / "backup")
    head = hub.push(repo, {"b.bin": b"more"})
    second = back_up(hub.registry, tmp_path / "backup")
    assert (first.copied_bytes, second.copied_bytes, second.blobs) == (3_000_000, 4, 2)
    assert (tmp_path / "backup" / "keys").stat().st_mode & 0o077 == 0
    assert restore(tmp_path / "backup", tmp_path / "new").blobs == 2
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("backup", "new")} == {0o700}
    again = Registry(RegistryConfig(tmp_path / "new"))
    assert again.history.resolve(again.repos.get(again.accounts.identify(token), repo.name)).oid == head.oid
    assert check(again).problems == ()
    again.close()


def test_a_backup_that_is_not_whole_is_none(hub: Any, tmp_path: Path) -> None:
    hub.push(hub.repo("ann/one"), {"a.bin": b"a" * 3_000_000})
    target = tmp_path / "backup"
    with pytest.raises(NotFoundError, match="no finished backup"):
        restore(tmp_path, tmp_path / "new")
    back_up(hub.registry, target)
    with pytest.raises(InputError, match="not empty"):
        restore(target, hub.registry.config.root)
    blob = next(target.glob("blobs/sha256/??/??/*[0-9a-f]"))
    blob.write_bytes(b"b" + blob.read_bytes()[1:])
    with pytest.raises(DamagedBlobError):
        restore(target, tmp_path / "new")
    assert not (tmp_path / "new" / "hub.db").exists()
    shutil.copy(target / "hub.db", tmp_path / "other.db")
    (target / "hub.db").write_bytes((tmp_path / "other.db").read_bytes() + b"x")
    with pytest.raises(BadFileError, match="differs"):
        restore(target, tmp_path / "other")
    (target / MANIFEST).write_text(json.dumps({"kind": "soup"}))
    with pytest.raises(BadFileError):
        restore(target, tmp_path / "other")


def test_a_damaged_hub_gives_no_backup(hub: Any, tmp_path: Path) -> None:
    hub.push(hub.repo("ann/one"), {"a.bin": b"a" * 3_000_000})
    back_up(hub.registry, tmp_path / "backup")
    path = largest(hub)
    path.write_bytes(b"b" + path.read_bytes()[1:])
    (tmp_path / "backup" / "blobs" / path.relative_to(hub.registry.config.root / "blobs")).unlink()
    with pytest.raises(DamagedBlobError):
        back_up(hub.registry, tmp_path / "backup")
    assert not (tmp_path / "backup" / MANIFEST).exists()


def test_no_other_account_reads_a_hub_also_one_that_was_open_before(tmp_path: Path) -> None:
    for folder in (tmp_path / "new", tmp_path / "old"):
        if folder.name == "old":
            folder.mkdir()
            folder.chmod(0o755)
        Registry(RegistryConfig(folder)).close()
        assert folder.stat().st_mode & 0o777 == 0o700
