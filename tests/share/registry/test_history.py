"""History is git's: the same ids, one winner of a race, nothing that was not sent."""

from __future__ import annotations

import subprocess
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nomoat.base.errors import InputError, NotFoundError
from nomoat.share.errors import ConflictError, ForbiddenError, RefusedError
from nomoat.share.names import check_path
from nomoat.share.registry.git_objects import EMPTY_TREE, GitEntry, blob_oid, lfs_pointer, tree_oid
from nomoat.share.registry.history import AddFile, CopyFile, DeletePath
from nomoat.share.registry.registry import Registry, RegistryConfig


class Git:
    """Git itself, in a bare repository."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)

    def ask(self, *arguments: str, stdin: bytes = b"") -> str:
        command = ["git", "--git-dir", str(self._folder), *arguments]
        return subprocess.run(command, input=stdin, check=True, capture_output=True).stdout.decode().strip()

    def blob(self, content: bytes) -> str:
        return self.ask("hash-object", "-w", "--stdin", stdin=content)

    def tree(self, files: dict[str, bytes]) -> str:
        """Git's own tree of these files, made through an index."""
        lines = b"".join(
            b"100644 %s\t%s\0" % (self.blob(each).encode(), path.encode()) for path, each in files.items()
        )
        (self._folder / "index").unlink(missing_ok=True)
        self.ask("update-index", "-z", "--index-info", stdin=lines)
        return self.ask("write-tree")


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Git:
    return Git(tmp_path_factory.mktemp("git") / "bare")


def _valid(path: str) -> bool:
    try:
        check_path(path)
    except InputError:
        return False
    return True


_PART = st.text("aB.-_0é日", min_size=1, max_size=4)
_PATH = st.lists(_PART, min_size=1, max_size=3).map("/".join).filter(_valid)
_FILES = st.dictionaries(_PATH, st.binary(max_size=20), max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_ids_are_gits_own(hub: Any, git: Git, data: st.DataObject) -> None:
    repo = hub.repo(f"ann/r{uuid.uuid4().hex}")
    files: dict[str, bytes] = {}
    for number in range(data.draw(st.integers(1, 3))):
        changes, gone = (
            data.draw(_FILES),
            data.draw(st.lists(st.sampled_from(sorted(files)), max_size=2)) if files else [],
        )
        wanted = {
            path: content
            for path, content in {**files, **changes}.items()
            if path not in set(gone) - set(changes)
        }
        operations = [
            *(DeletePath(path) for path in gone),
            *(hub.add(content, path) for path, content in changes.items()),
        ]
        try:
            commit = hub.registry.history.commit(
                repo, operations, hub.person("ann"), f"change {number}\n\nwhy", "é"
            )
        except InputError:
            assert _clash(wanted)  # a file that is a folder as well, or two names that differ in case only
            return
        files = wanted
        assert commit.tree == (git.tree(files) if files else EMPTY_TREE)
        text = git.ask("cat-file", "-t", _as_git_has_it(git, commit))
        assert text == "commit"
        listed = {entry.path: entry.oid for entry in hub.registry.history.files(commit) if entry.is_file}
        assert listed == {path: git.blob(content) for path, content in files.items()}


def _clash(files: dict[str, bytes]) -> bool:
    folders = {path.rsplit("/", depth)[0] for path in files for depth in range(1, path.count("/") + 1)}
    return bool(folders & set(files)) or len({path.lower() for path in files}) < len(files)


def _as_git_has_it(git: Git, commit: Any) -> str:
    """Git makes the commit itself and must come to the same id."""
    seconds = commit.created_ms // 1000
    who = f"{commit.author} <{commit.author}@hub> {seconds} +0000"
    parent = f"parent {commit.parent}\n" if commit.parent else ""
    text = (
        f"tree {commit.tree}\n{parent}author {who}\ncommitter {who}\n\n{commit.title}\n\n{commit.message}\n"
    )
    git.ask("mktree", stdin=b"")
    oid = git.ask("hash-object", "-w", "-t", "commit", "--stdin", stdin=text.encode())
    assert oid == commit.oid
    return oid


def test_a_commit_is_what_git_commit_tree_makes(hub: Any, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.push(hub.repo("ann/notes"), {"a/b.txt": b"1", "a.txt": b"2", "a0": b"3"}, "first")
    assert commit.tree == git.tree({"a/b.txt": b"1", "a.txt": b"2", "a0": b"3"})
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "ann")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ann@hub")
        monkeypatch.setenv(f"GIT_{role}_DATE", f"{commit.created_ms // 1000} +0000")
    assert git.ask("commit-tree", commit.tree, "-m", "first") == commit.oid


def test_ids_of_contents(git: Git) -> None:
    assert blob_oid(b"x" * 100) == git.blob(b"x" * 100)
    assert lfs_pointer("sha256:" + "a" * 64, 5).decode().splitlines()[1] == f"oid sha256:{'a' * 64}"
    assert tree_oid([]) == EMPTY_TREE
    entries = [
        GitEntry("a", "tree", "1" * 40),
        GitEntry("a.b", "blob", "2" * 40),
        GitEntry("a0", "blob", "3" * 40),
    ]
    lines = "".join(
        f"{'040000' if e.kind == 'tree' else '100644'} {e.kind} {e.oid}\t{e.name}\n" for e in entries
    )
    assert tree_oid(entries) == git.ask("mktree", "--missing", stdin=lines.encode())


def test_of_two_who_know_the_same_state_one_wins(any_hub: Any) -> None:
    repo = any_hub.repo("ann/notes")
    first = any_hub.push(repo, {"a": b"1"})
    any_hub.push(repo, {"a": b"2"}, parent=first.oid)
    with pytest.raises(ConflictError, match="moved on"):
        any_hub.push(repo, {"a": b"3"}, parent=first.oid)
    with pytest.raises(ConflictError, match="moved on"):
        any_hub.push(repo, {"a": b"3"}, parent="")
    assert len(any_hub.registry.history.log(repo)) == 2


@pytest.mark.parametrize("start", ["empty", "with a commit"])
def test_a_race_of_threads_has_one_winner_each_round(any_hub: Any, start: str) -> None:
    repo = any_hub.repo("ann/notes")
    at = any_hub.push(repo, {"a": b"0"}).oid if start != "empty" else ""
    for number in range(5):
        outcomes: list[str] = []

        def push(name: str, at: str = at, outcomes: list[str] = outcomes, number: int = number) -> None:
            try:
                outcomes.append(any_hub.push(repo, {name: f"{number}".encode()}, parent=at).oid)
            except ConflictError:
                outcomes.append("conflict")

        threads = [threading.Thread(target=push, args=(f"file{thread}",)) for thread in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes).count("conflict") == 5, outcomes
        assert len(outcomes) == 6
        at = any_hub.registry.history.resolve(repo).oid
        assert at in outcomes


def test_without_a_parent_every_push_of_a_race_is_kept(any_hub: Any) -> None:
    repo = any_hub.repo("ann/notes")
    operations = [any_hub.add(b"same", f"file{number}") for number in range(8)]
    failures: list[Exception] = []

    def push(operation: AddFile) -> None:
        try:
            any_hub.registry.history.commit(repo, [operation], any_hub.person("ann"), "one of many")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=push, args=(operation,)) for operation in operations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(any_hub.registry.history.files(any_hub.registry.history.resolve(repo))) == 8


def test_operations(any_hub: Any) -> None:
    repo, history, ann = any_hub.repo("ann/notes"), any_hub.registry.history, any_hub.person("ann")
    first = any_hub.push(repo, {"a/x": b"1", "a/y": b"2", "b": b"3"})
    second = history.commit(
        repo, [DeletePath("a/"), CopyFile("c", "b"), CopyFile("d", "a/x", first.oid)], ann, "t"
    )
    assert [entry.path for entry in history.files(second)] == ["b", "c", "d"]
    assert history.entry(second, "d").digest == history.entry(first, "a/x").digest
    assert [entry.path for entry in history.files(first, "a")] == ["a/x", "a/y"]
    assert [entry.path for entry in history.files(first, recursive=False)] == ["a", "b"]
    assert [commit.oid for commit in history.log(repo)] == [second.oid, first.oid]
    for missing in ("a", "b/c", "nothing"):
        with pytest.raises(NotFoundError):
            history.files(second, missing)
    with pytest.raises(NotFoundError):
        history.commit(repo, [CopyFile("e", "a/x")], ann, "t")
    with pytest.raises(InputError, match="file and a folder"):
        any_hub.push(repo, {"b/c": b"1"})
    with pytest.raises(InputError, match="only in case"):
        any_hub.push(repo, {"B": b"1"})
    for title in ("", "  ", "a\0b", "\ud800"):
        with pytest.raises(InputError):
            any_hub.push(repo, {"x": b"1"}, title)
    assert history.resolve(repo) == second


def test_branches_and_releases(any_hub: Any) -> None:
    repo, history = any_hub.repo("ann/notes"), any_hub.registry.history
    first = any_hub.push(repo, {"a": b"1"})
    history.create_branch(repo, "dev")
    history.create_tag(repo, "v1", immutable=True)
    second = any_hub.push(repo, {"a": b"2"}, branch="dev")
    assert history.resolve(repo).oid == history.resolve(repo, "v1").oid == first.oid
    assert history.resolve(repo, "dev").oid == history.resolve(repo, "refs/heads/dev").oid == second.oid
    assert [(ref.name, ref.is_tag, ref.immutable) for ref in history.refs(repo)] == [
        ("dev", False, False), ("main", False, False), ("v1", True, True)]  # fmt: skip
    with pytest.raises(ConflictError):
        history.create_tag(repo, "v1", "dev")
    with pytest.raises(ConflictError, match="is a release: it stays"):
        history.create_branch(repo, "v1", "dev")
    with pytest.raises(ConflictError, match="dev is a branch"):
        history.create_tag(repo, "dev", immutable=True)
    assert history.resolve(repo, "v1").oid == first.oid
    for name, is_tag in (("v1", True), ("main", False)):
        with pytest.raises(ForbiddenError):
            history.delete_ref(repo, name, is_tag=is_tag)
    history.delete_ref(repo, "dev", is_tag=False)
    with pytest.raises(NotFoundError):
        history.resolve(repo, "dev")
    with pytest.raises(NotFoundError):
        any_hub.push(repo, {"a": b"3"}, branch="dev")


def test_what_was_never_sent_is_refused(any_hub: Any) -> None:
    repo = any_hub.repo("ann/notes")
    sent = any_hub.add(b"sent")
    for wrong in (AddFile("a", "sha256:" + "0" * 64, 4, "0" * 40), AddFile("a", sent.digest, 5, sent.oid)):
        with pytest.raises(RefusedError):
            any_hub.registry.history.commit(repo, [wrong], any_hub.person("ann"), "t")
    with pytest.raises(NotFoundError):
        any_hub.registry.history.resolve(repo)


def test_committing_to_what_was_deleted(any_hub: Any) -> None:
    repo = any_hub.repo("ann/notes")
    any_hub.registry.repos.delete(any_hub.person("ann"), repo.name)
    with pytest.raises(NotFoundError, match="gone"):
        any_hub.push(repo, {"a": b"1"})


def test_a_registry_opened_twice_is_one(tmp_path: Path, hub: Any) -> None:
    commit = hub.push(hub.repo("ann/notes"), {"a": b"1"})
    other = Registry(RegistryConfig(hub.registry.config.root))
    repo = other.repos.get(other.accounts.identity("ann"), hub.repo("ann/x").name.parse("model", "ann/notes"))
    assert other.history.resolve(repo).oid == commit.oid == repo.head
    other.close()
