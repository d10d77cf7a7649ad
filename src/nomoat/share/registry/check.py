"""Looks over a whole registry: is every blob that a commit holds there and whole, and does everything fit together?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import select

from nomoat.base.errors import NotFoundError
from nomoat.base.progress import Progress
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.errors import DamagedBlobError
from nomoat.share.registry import search_index
from nomoat.share.registry.git_objects import (
    EMPTY_TREE,
    GitEntry,
    blob_oid,
    commit_oid,
    lfs_pointer,
    tree_oid,
)
from nomoat.share.registry.holders import held_anywhere, reachable_trees
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.schema import blobs, commits, refs, repos, tree_entries

__all__ = ["CheckReport", "Problem", "check"]

_SUM_BYTES = 32


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be. `kind`: blob, tree, commit, ref, search or events."""

    kind: str
    name: str
    message: str


@dataclass
class CheckReport:
    """What was looked at, and what is wrong with it. `quick`: contents were not read."""

    quick: bool
    blobs: int = 0
    bytes: int = 0
    trees: int = 0
    commits: int = 0
    refs: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, name: str, message: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, name, message))

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


@dataclass(frozen=True)
class _File:
    """A content as the trees know it: `oids` are the ids of it as a file of git's own, not as an LFS pointer."""

    size_bytes: int
    oids: frozenset[str]


def check(registry: Registry, progress: Progress, *, quick: bool = False) -> CheckReport:
    """Look at everything; damaged blobs are marked. `quick` compares sizes instead of reading every byte."""
    report = CheckReport(quick)
    files = _check_trees(registry, report)
    _check_commits(registry, report)
    with registry.database.read() as connection:
        if wrong := search_index.out_of_step(connection):
            report.add("search", "", f"{wrong:,} entries of the search index differ from the repositories")
    for message in registry.events.verify():
        report.add("events", "", message)
    _check_blobs(registry, files, report, progress)
    return report


# -- trees and commits ----------------------------------------------------------------------------------


def _check_trees(registry: Registry, report: CheckReport) -> dict[str, _File]:
    """Recompute the ids of all trees that a commit reaches; returns the contents in them."""
    sizes: dict[str, int] = {}
    oids: dict[str, set[str]] = defaultdict(set)
    seen, wanted = {EMPTY_TREE}, {EMPTY_TREE}
    for tree, rows in _trees(registry):
        seen.add(tree)
        if tree_oid(GitEntry(row.name, row.kind, row.oid) for row in rows) != tree:
            report.add("tree", tree, "its entries are not those that its id was made of")
        for row in rows:
            if row.kind == "tree":
                wanted.add(row.oid)
                continue
            if sizes.setdefault(row.digest, row.size_bytes) != row.size_bytes:
                report.add("tree", tree, f"{row.name}: {row.digest} has another size elsewhere")
            if not row.lfs:
                oids[row.digest].add(row.oid)
            elif blob_oid(lfs_pointer(row.digest, row.size_bytes)) != row.oid:
                report.add("tree", tree, f"{row.name}: its id is not that of its LFS pointer")
    report.trees = len(seen) - 1
    with registry.database.read() as connection:
        wanted |= set(connection.scalars(select(commits.c.tree).distinct()))
        gone = wanted - seen
        still = set(connection.scalars(select(reachable_trees().c.tree))) if gone else set()
    for tree in sorted((gone & still) - _now_there(registry, gone)):
        report.add("tree", tree, "a commit needs it, but it is not there")
    return {digest: _File(size, frozenset(oids[digest])) for digest, size in sizes.items()}


def _now_there(registry: Registry, trees: set[str]) -> set[str]:
    """Those of `trees` that somebody pushed while the check ran."""
    found = set()
    with registry.database.read() as connection:
        for tree in trees:
            if connection.scalar(select(tree_entries.c.tree).where(tree_entries.c.tree == tree).limit(1)):
                found.add(tree)
    return found


def _trees(registry: Registry) -> Iterator[tuple[str, list[Any]]]:
    below = reachable_trees()
    query = (
        select(tree_entries).join(below, tree_entries.c.tree == below.c.tree).order_by(tree_entries.c.tree)
    )
    with registry.database.read() as connection:
        rows: list[Any] = []
        for row in connection.execute(query):
            if rows and rows[0].tree != row.tree:
                yield rows[0].tree, rows
                rows = []
            rows.append(row)
        if rows:
            yield rows[0].tree, rows


def _check_commits(registry: Registry, report: CheckReport) -> None:
    with registry.database.read() as connection:
        known = {
            (row.repo_id, row.oid) for row in connection.execute(select(commits.c.repo_id, commits.c.oid))
        }
        for row in connection.execute(select(commits)):
            report.commits += 1
            text = f"{row.title}\n\n{row.message}" if row.message else row.title
            who = f"{row.author} <{row.author}@hub>"
            if commit_oid(row.tree, row.parent, who, row.created_ms // 1000, text) != row.oid:
                report.add("commit", row.oid, "its fields are not those that its id was made of")
            if row.parent and (row.repo_id, row.parent) not in known:
                report.add("commit", row.oid, f"the commit before, {row.parent}, is not there")
        for row in connection.execute(select(refs)):
            report.refs += 1
            if (row.repo_id, row.commit) not in known:
                report.add("ref", row.name, f"it points to {row.commit}, which its repository does not have")
        main = (refs.c.repo_id == repos.c.id) & (refs.c.name == "refs/heads/main")
        for row in connection.execute(
            select(repos.c.full_name, repos.c.head, refs.c.commit).outerjoin(refs, main)
        ):
            if row.head != row.commit:
                report.add("ref", row.full_name, f"main is at {row.commit}, the gallery shows {row.head}")


# -- blobs ----------------------------------------------------------------------------------------------


def _check_blobs(
    registry: Registry, files: dict[str, _File], report: CheckReport, progress: Progress
) -> None:
    progress.start("checking blobs", sum(file.size_bytes for file in files.values()), "bytes")
    for digest, file in sorted(files.items()):
        report.blobs += 1
        report.bytes += file.size_bytes
        message = _wrong_with(registry, digest, file, quick=report.quick)
        if message and _still_held(registry, digest):
            report.add("blob", digest, message)
            registry.blobs.mark_damaged(digest)
        progress.advance(file.size_bytes)
    progress.finish()


def _wrong_with(registry: Registry, digest: str, file: _File, *, quick: bool) -> str:
    """What is wrong with a blob; empty where nothing is."""
    try:
        info = registry.store.info(digest)
        if info is None:
            return "it is not there"
        if info.size_bytes != file.size_bytes:
            return f"it has {info.size_bytes:,} bytes instead of {file.size_bytes:,}"
        if len(registry.store.sums(digest)) != -(-info.size_bytes // BLOCK_BYTES) * _SUM_BYTES:
            return "the checksums of its blocks are not as many as its blocks"
        if not quick:
            registry.store.check(digest)
            _check_oid(registry, digest, file)
    except (DamagedBlobError, NotFoundError) as error:
        return error.message
    return "" if _recorded(registry, digest, file.size_bytes) else "the database has no record of it"


def _check_oid(registry: Registry, digest: str, file: _File) -> None:
    if not file.oids:
        return
    with registry.store.open(digest) as reader:
        found = blob_oid(reader.read())  # small: larger ones are LFS files
    if file.oids != {found}:
        raise DamagedBlobError(f"its id as a file of git is {found}, not as the trees say")


def _recorded(registry: Registry, digest: str, size_bytes: int) -> bool:
    with registry.database.read() as connection:
        return connection.scalar(select(blobs.c.size_bytes).where(blobs.c.digest == digest)) == size_bytes


def _still_held(registry: Registry, digest: str) -> bool:
    """A repository may have been deleted, and its blobs collected, while the check ran."""
    with registry.database.read() as connection:
        return bool(held_anywhere(connection, [digest]))
