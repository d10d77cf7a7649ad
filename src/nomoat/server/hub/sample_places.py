"""Where on a hub the files are that a sample chat runs: a model, an adapter, and the adapter's base by its digest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select

from nomoat.base.errors import InputError, NotFoundError
from nomoat.share.client.remote import RemoteFile, Snapshot
from nomoat.share.client.selection import Selection
from nomoat.share.client.selection import select as select_files
from nomoat.share.registry.history import Commit
from nomoat.share.registry.holders import holders_of
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.repos import Repo, repo_of
from nomoat.share.registry.schema import repos
from nomoat.share.registry.trees import Entry

__all__ = ["Place", "files_to_run", "find_base"]

_MOST_COMMITS = 1000


@dataclass(frozen=True)
class Place:
    """A file of a repository at a commit."""

    repo: Repo
    commit: Commit
    entry: Entry

    @property
    def digest(self) -> str:
        """Of its bytes."""
        assert self.entry.digest is not None
        return self.entry.digest

    def __str__(self) -> str:
        return f"{self.repo.name}:{self.entry.path}"


def files_to_run(repo: Repo, commit: Commit, entries: Iterable[Entry], selector: str) -> list[Place]:
    """The files that `nomoat pull` would take of it: one model in GGUF form, or all of an adapter.

    Raises `NotFoundError` where there is neither, `InputError` where it must be said which.
    """
    files = {entry.path: entry for entry in entries if entry.is_file and entry.digest}
    known = tuple(RemoteFile(each.path, each.size_bytes, each.oid, each.digest) for each in files.values())
    chosen = _selected(Snapshot(repo.name, commit.oid, known, {}), selector)
    if chosen.kind == "model" and len(chosen.files) > 1:
        raise InputError(f"{repo.name}: the model is in {len(chosen.files)} parts, and this runs one file",
                         "push it joined: llama-gguf-split --merge FIRST-PART OUT.gguf")  # fmt: skip
    return [Place(repo, commit, files[file.path]) for file in chosen.files]


def _selected(snapshot: Snapshot, selector: str) -> Selection:
    try:
        return select_files(snapshot, selector)
    except NotFoundError as error:
        if selector:
            raise
        raise NotFoundError(error.message, "push a model in GGUF form, or an adapter of one") from error


def find_base(registry: Registry, repo: Repo, digest: str) -> Place | None:
    """Where this hub has the base of that digest, in its newest version if possible; None where it has not.

    A private base answers for private adapters of its owner only: its answers would be on a page that others read.
    """
    with registry.database.read() as connection:
        ids = holders_of(connection, digest)
        rows = connection.execute(select(repos).where(repos.c.id.in_(ids)).order_by(repos.c.id)).all()
    for holder in map(repo_of, rows):
        hidden = holder.private and not (repo.private and holder.owner_id == repo.owner_id)
        if holder.head is None or holder.taken_down or hidden:
            continue
        if place := _newest_with(registry, holder, digest):
            return place
    return None


def _newest_with(registry: Registry, repo: Repo, digest: str) -> Place | None:
    for commit in registry.history.log(repo, limit=_MOST_COMMITS):
        for entry in registry.history.files(commit):
            if entry.digest == digest and entry.path.endswith(".gguf"):
                return Place(repo, commit, entry)
    return None
