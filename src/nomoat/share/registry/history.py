"""What is in a repository, now and before: revisions, commits, branches and tags.

A commit is built beside the branch and then takes it over by compare-and-swap: of two pushers one wins and the
other one learns it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from nomoat.base.errors import InputError, NotFoundError
from nomoat.share.errors import ConflictError, ForbiddenError, QuotaError
from nomoat.share.names import MAIN, check_path, check_ref_name, is_commit
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.blob_records import BlobRecords
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.event_log import EventLog
from nomoat.share.registry.git_objects import commit_oid
from nomoat.share.registry.release_names import keep_release, require_never_released
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.schema import commits, refs, repo_blobs, repos
from nomoat.share.registry.trees import Entry, Trees

__all__ = ["AddFile", "Commit", "CopyFile", "DeletePath", "History", "Operation", "Ref", "author_line"]

_HEADS, _TAGS = "refs/heads/", "refs/tags/"


@dataclass(frozen=True)
class AddFile:
    """Put a file there. Its content is in the blob store and recorded (`BlobRecords.add`) already."""

    path: str
    digest: str
    size_bytes: int
    oid: str
    lfs: bool = False


@dataclass(frozen=True)
class DeletePath:
    """Remove a file, or a folder with all that is in it."""

    path: str


@dataclass(frozen=True)
class CopyFile:
    """Put the file `source` of `revision` (None: the commit's parent) at `path`, too."""

    path: str
    source: str
    revision: str | None = None


Operation = AddFile | DeletePath | CopyFile


@dataclass(frozen=True)
class Commit:
    """One state of a repository, and who made it."""

    oid: str
    parent: str
    tree: str
    author: str
    title: str
    message: str
    created_ms: int


@dataclass(frozen=True)
class Ref:
    """A branch or tag; `name` is the short one. An immutable tag never moves and is never deleted."""

    name: str
    is_tag: bool
    commit: str
    immutable: bool


class History:
    """The history of all repositories. Callers have checked that the `Repo` may be read or written."""

    def __init__(self, database: Database, blobs: BlobRecords, events: EventLog | None = None) -> None:
        self._database, self._blobs, self._trees, self._events = database, blobs, Trees(database), events
        self.after_commit: Callable[[Repo, Commit], None] = lambda repo, commit: None
        """Called after each commit, outside its transaction."""

    # -- reading -------------------------------------------------------------------------------------

    def resolve(self, repo: Repo, revision: str = MAIN) -> Commit:
        """The commit of a branch, a tag, `refs/...` or an id. Raises `NotFoundError`."""
        with self._database.read() as connection:
            commit = _resolve(connection, repo, revision)
        if commit is None:
            raise NotFoundError(
                f"{repo.name} has no revision {revision[:80]!r}", "its page lists branches and tags"
            )
        return commit

    def files(self, commit: Commit, folder: str = "", *, recursive: bool = True) -> list[Entry]:
        """Files and folders at a commit, below `folder`. Raises `NotFoundError` where there is no such folder."""
        with self._database.read() as connection:
            tree = commit.tree
            if folder:
                entry = self._trees.find(connection, tree, folder)
                if entry is None or entry.is_file:
                    raise NotFoundError(f"there is no folder {folder[:120]!r}", "list the folder above it")
                tree = entry.oid
            if recursive:
                return list(self._trees.walk(connection, tree, folder))
            return self._trees.children(connection, tree, folder)

    def entry(self, commit: Commit, path: str) -> Entry:
        """A file or folder. Raises `NotFoundError`."""
        with self._database.read() as connection:
            entry = self._trees.find(connection, commit.tree, path)
        if entry is None:
            raise NotFoundError(f"there is no {path[:120]!r} at {commit.oid[:12]}", "list the files")
        return entry

    def log(self, repo: Repo, revision: str = MAIN, limit: int = 50, skip: int = 0) -> list[Commit]:
        """Commits from `revision` back, newest first."""
        found: list[Commit] = []
        with self._database.read() as connection:
            commit = _resolve(connection, repo, revision)
            while commit is not None and len(found) < limit + skip:
                found.append(commit)
                commit = _commit(connection, repo, commit.parent) if commit.parent else None
        return found[skip:]

    def count(self, repo: Repo, commit: Commit) -> int:
        """How many commits led to this one, itself included."""
        own = commits.c.repo_id == repo.id
        chain = (
            select(commits.c.oid, commits.c.parent)
            .where(own, commits.c.oid == commit.oid)
            .cte(recursive=True)
        )
        chain = chain.union_all(
            select(commits.c.oid, commits.c.parent).where(own, commits.c.oid == chain.c.parent)
        )
        with self._database.read() as connection:
            return connection.scalar(select(func.count()).select_from(chain)) or 0

    def refs(self, repo: Repo) -> list[Ref]:
        """Branches and tags, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(refs).where(refs.c.repo_id == repo.id).order_by(refs.c.name))
            return [_ref(row) for row in rows]

    # -- writing -------------------------------------------------------------------------------------

    def commit(
        self, repo: Repo, operations: Sequence[Operation], who: Identity, title: str, message: str = "", *,
        branch: str = MAIN, parent: str | None = None,
    ) -> Commit:  # fmt: skip
        """Apply `operations` to a branch and let it point to the result.

        With `parent` the branch must still be there, else `ConflictError`; without it the newest state is changed.
        Raises `RefusedError` for a digest that was never sent, `InputError` for paths that cannot be.
        """
        with self._database.write() as connection:
            _lock(connection, repo)
            head = _head(connection, repo, branch)
            if parent is not None and parent != (head.oid if head else ""):
                raise ConflictError(f"{branch} of {repo.name} has moved on: it is at {head.oid if head else 'nothing'}",
                                    "fetch it, look at what changed, and send your change again")  # fmt: skip
            files = self._files(connection, head.tree) if head else {}
            for operation in operations:
                self._apply(connection, repo, files, operation)
            tree = self._trees.write(connection, _consistent(files))
            self._note_blobs(connection, repo, files, operations)
            self._check_quota(connection, repo, files)
            commit = _new_commit(tree, head.oid if head else "", who.name, title, message)
            _store(connection, repo, commit)
            self._move(connection, repo, f"{_HEADS}{branch}", head.oid if head else None, commit.oid)
            if branch == MAIN:
                connection.execute(
                    update(repos).where(repos.c.id == repo.id).values(head=commit.oid, modified_ms=now_ms())
                )
            self._log(connection, "commit", repo, branch, commit.oid, who.name)
        self.after_commit(repo, commit)
        return commit

    def create_branch(self, repo: Repo, name: str, revision: str = MAIN) -> Ref:
        """A branch at `revision`. Raises `ConflictError` where it, or a release of that name, exists."""
        return self._create_ref(repo, f"{_HEADS}{check_ref_name(name)}", revision, immutable=False)

    def create_tag(self, repo: Repo, name: str, revision: str = MAIN, *, immutable: bool = False) -> Ref:
        """A tag at `revision`. Raises `ConflictError` where it, or a branch with an immutable one's name, exists."""
        return self._create_ref(repo, f"{_TAGS}{check_ref_name(name)}", revision, immutable=immutable)

    def delete_ref(self, repo: Repo, name: str, *, is_tag: bool) -> None:
        """Remove a branch or tag. Raises `ForbiddenError` for `main` and for immutable tags."""
        if not is_tag and name == MAIN:
            raise ForbiddenError("the branch 'main' cannot be removed", "delete the repository")
        where = (refs.c.repo_id == repo.id, refs.c.name == f"{_TAGS if is_tag else _HEADS}{name}")
        with self._database.write() as connection:
            row = connection.execute(select(refs).where(*where)).first()
            if row is None:
                raise NotFoundError(f"{repo.name} has no {'tag' if is_tag else 'branch'} {name[:80]!r}")
            if row.immutable:
                raise ForbiddenError(
                    f"{name} of {repo.name} is a release: it stays as it is", "make a new tag"
                )
            connection.execute(delete(refs).where(*where))
            self._log(connection, "ref-deleted", repo, name, row.commit)

    def _create_ref(self, repo: Repo, full: str, revision: str, *, immutable: bool) -> Ref:
        with self._database.write() as connection:
            _lock(connection, repo)
            _require_free(connection, repo, full, immutable)
            if not immutable:
                require_never_released(connection, repo.name, full.split("/", 2)[2])
            commit = _resolve(connection, repo, revision)
            if commit is None:
                raise NotFoundError(f"{repo.name} has no revision {revision[:80]!r}")
            row = {"repo_id": repo.id, "name": full, "commit": commit.oid, "immutable": immutable,
                   "created_ms": now_ms()}  # fmt: skip
            if not connection.execute(self._database.insert_missing(refs).values(row)).rowcount:
                raise ConflictError(
                    f"{full.split('/', 2)[2]} of {repo.name} exists already", "choose another name"
                )
            if immutable:
                keep_release(self._database, connection, repo.name, full.split("/", 2)[2], commit.oid)
            self._log(connection, "release" if immutable else "ref", repo, full, commit.oid)
        return Ref(full.split("/", 2)[2], full.startswith(_TAGS), commit.oid, immutable)

    def _log(
        self, connection: Connection, kind: str, repo: Repo, ref: str, commit: str, by: str = ""
    ) -> None:
        if self._events is not None:
            payload = {"repo": repo.name.key, "ref": ref, "commit": commit, "by": by}
            self._events.append(kind, payload, connection)

    def _files(self, connection: Connection, tree: str) -> dict[str, Entry]:
        return {entry.path: entry for entry in self._trees.walk(connection, tree) if entry.is_file}

    def _apply(
        self, connection: Connection, repo: Repo, files: dict[str, Entry], operation: Operation
    ) -> None:
        if isinstance(operation, AddFile):
            self._blobs.require(connection, operation.digest, operation.size_bytes)
            files[check_path(operation.path)] = Entry(
                operation.path, "blob", operation.oid, operation.size_bytes, operation.digest, operation.lfs
            )
        elif isinstance(operation, DeletePath):
            prefix = operation.path.rstrip("/")
            for path in [path for path in files if path == prefix or path.startswith(f"{prefix}/")]:
                del files[path]
        else:
            source = self._source(connection, repo, files, operation)
            files[check_path(operation.path)] = replace(source, path=operation.path)

    def _source(
        self, connection: Connection, repo: Repo, files: dict[str, Entry], operation: CopyFile
    ) -> Entry:
        found = files.get(operation.source)
        if operation.revision is not None:
            commit = _resolve(connection, repo, operation.revision)
            found = self._trees.find(connection, commit.tree, operation.source) if commit else None
        if found is None or not found.is_file:
            raise NotFoundError(f"there is no file {operation.source[:120]!r} to copy", "list the files")
        return found

    def _note_blobs(
        self, connection: Connection, repo: Repo, files: dict[str, Entry], operations: Sequence[Operation]
    ) -> None:
        new = {
            files[each.path].digest
            for each in operations
            if not isinstance(each, DeletePath) and each.path in files
        }
        rows = [{"repo_id": repo.id, "digest": digest} for digest in sorted(filter(None, new))]
        if rows:
            connection.execute(self._database.insert_missing(repo_blobs), rows)

    def _check_quota(self, connection: Connection, repo: Repo, files: dict[str, Entry]) -> None:
        """What all versions hold counts, each content once; the commit's own are noted already."""
        room = self._blobs.quota_left(connection, repo.owner_id)
        if room is not None and room < 0:
            raise QuotaError(f"this is {-room:,} bytes more than {repo.name.owner} may store",
                             "delete repositories that are no longer needed, or ask the hub's admin")  # fmt: skip
        size = sum(entry.size_bytes for entry in files.values())
        connection.execute(update(repos).where(repos.c.id == repo.id).values(size_bytes=size))

    def _move(self, connection: Connection, repo: Repo, name: str, before: str | None, after: str) -> None:
        if before is None:
            row = {"repo_id": repo.id, "name": name, "commit": after, "immutable": False,
                   "created_ms": now_ms()}  # fmt: skip
            moved = connection.execute(self._database.insert_missing(refs).values(row)).rowcount
        else:
            where = (refs.c.repo_id == repo.id, refs.c.name == name, refs.c.commit == before)
            moved = connection.execute(update(refs).where(*where).values(commit=after)).rowcount
        if not moved:
            raise ConflictError(f"{name} of {repo.name} was moved by somebody else", "send your change again")


def _lock(connection: Connection, repo: Repo) -> None:
    """Let commits to one repository follow each other; SQLite does so anyway."""
    if connection.scalar(select(repos.c.id).where(repos.c.id == repo.id).with_for_update()) is None:
        raise NotFoundError(f"{repo.name} is gone", "it was deleted in the meantime")


def _require_free(connection: Connection, repo: Repo, full: str, immutable: bool) -> None:
    """Branches are looked up before tags: none may come to stand for what a release is named, nor the reverse."""
    name = full.split("/", 2)[2]
    same = refs.c.name.in_([f"{_HEADS}{name}", f"{_TAGS}{name}"])
    for row in connection.execute(select(refs).where(refs.c.repo_id == repo.id, same)):
        if row.immutable:
            raise ConflictError(
                f"{name} of {repo.name} is a release: it stays as it is", "choose another name"
            )
        if immutable and row.name.startswith(_HEADS):
            raise ConflictError(f"{name} is a branch of {repo.name}, and would hide a release of that name",
                                "choose another name")  # fmt: skip


def _consistent(files: dict[str, Entry]) -> dict[str, Entry]:
    """`files`, unless one of them would be a folder as well, or two differ only in case."""
    folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
    if both := folders & set(files):
        raise InputError(f"{min(both)!r} cannot be a file and a folder", "rename one of them")
    lowered: dict[str, str] = {}
    for path in files:
        other = lowered.setdefault(path.lower(), path)
        if other != path:
            raise InputError(
                f"{other!r} and {path!r} differ only in case", "not every file system can hold both"
            )
    return files


def author_line(name: str) -> str:
    """An author as git's commits name them."""
    return f"{name} <{name}@hub>"


def _new_commit(tree: str, parent: str, author: str, title: str, message: str) -> Commit:
    if not title.strip():
        raise InputError("a commit needs a title", "say in a line what changed")
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in title + message):
        raise InputError("a commit's message is no text", "it holds a NUL or half a character")
    created = now_ms()
    text = f"{title}\n\n{message}" if message else title
    oid = commit_oid(tree, parent, author_line(author), created // 1000, text)
    return Commit(oid, parent, tree, author, title, message, created)


def _store(connection: Connection, repo: Repo, commit: Commit) -> None:
    known = connection.scalar(select(commits.c.oid).filter_by(repo_id=repo.id, oid=commit.oid))
    if known is None:
        connection.execute(insert(commits).values(repo_id=repo.id, **vars(commit)))


def _head(connection: Connection, repo: Repo, branch: str) -> Commit | None:
    name = f"{_HEADS}{check_ref_name(branch)}"
    oid = connection.scalar(select(refs.c.commit).filter_by(repo_id=repo.id, name=name))
    if oid is None and branch != MAIN:
        raise NotFoundError(f"{repo.name} has no branch {branch[:80]!r}", "create it first")
    return _commit(connection, repo, oid) if oid else None


def _resolve(connection: Connection, repo: Repo, revision: str) -> Commit | None:
    if is_commit(revision):
        return _commit(connection, repo, revision)
    names = [revision] if revision.startswith("refs/") else [f"{_HEADS}{revision}", f"{_TAGS}{revision}"]
    for name in names:
        oid = connection.scalar(select(refs.c.commit).filter_by(repo_id=repo.id, name=name))
        if oid is not None:
            return _commit(connection, repo, oid)
    return None


def _commit(connection: Connection, repo: Repo, oid: str) -> Commit | None:
    row: Any = connection.execute(select(commits).filter_by(repo_id=repo.id, oid=oid)).first()
    if row is None:
        return None
    return Commit(row.oid, row.parent, row.tree, row.author, row.title, row.message, row.created_ms)


def _ref(row: Any) -> Ref:
    kind, _, name = row.name.removeprefix("refs/").partition("/")
    return Ref(name, kind == "tags", row.commit, row.immutable)
