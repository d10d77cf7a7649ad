"""Garbage collection: what no branch or tag leads to any more goes after a time of grace, and what nobody holds then.

It runs beside pushes. A blob's record is deleted only while it is still unreachable and as old as it was found; then
its file, while nobody writes and only where it is not recorded again. Whoever recorded the same blob in between keeps
it, or learns that it must be sent again (`BlobRecords.record`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, text

from nomoat.base.progress import Progress, Silent
from nomoat.base.work_folders import sweep_work_folders
from nomoat.share.blobs.parts import PartFiles
from nomoat.share.registry.database import now_ms
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.samples import WORK_FOLDER
from nomoat.share.registry.schema import (
    blobs,
    commits,
    repo_blobs,
    sent_blobs,
    tree_entries,
    xet_chunks,
    xet_files,
    xet_segments,
    xet_sent,
    xet_xorbs,
)
from nomoat.share.registry.upkeep.unreachable import forget_commits, unreachable_commits
from nomoat.share.xet.runs import RUNS_FOLDER, Runs
from nomoat.share.xet.scopes import end_all_scopes

__all__ = ["GRACE_SECONDS", "Collected", "collect", "remove_unrecorded"]

GRACE_SECONDS = 24 * 3600
"""How long a file that was sent may wait for its commit."""


@dataclass
class Collected:
    """What went, or in a dry run would go."""

    commits: int = 0
    """Versions that no branch or tag led to."""
    blobs: int = 0
    bytes: int = 0
    unrecorded: int = 0
    """Blobs of which the database knows nothing: what a crash left."""
    unfinished: int = 0
    """Uploads that broke off."""
    trees: int = 0
    """Rows of folders that no commit has."""


def collect(
    registry: Registry,
    *,
    grace_seconds: float = GRACE_SECONDS,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Collected:
    """Remove what is unreachable and older than the grace. Stopped at any moment, it leaves a sound registry."""
    progress, found = progress or Silent(), Collected()
    cutoff = now_ms() - int(grace_seconds * 1000)
    found.commits, candidates = _candidates(registry, cutoff, dry_run)
    progress.start("Clearing away", len(candidates), "blobs")
    for digest, size, created in candidates:
        if dry_run or _remove(registry, digest, created):
            found.blobs += 1
            found.bytes += size
        progress.advance()
    progress.finish()
    for digest, size in list(_unrecorded(registry, cutoff)):
        if dry_run or remove_unrecorded(registry, digest):
            found.unrecorded += 1
            found.bytes += size
    if not dry_run:
        found.unfinished = _sweep(registry, grace_seconds)
        with registry.database.write() as connection:
            _forget_xorbs(connection, cutoff)
            found.trees = _prune_trees(connection, registry.database.is_sqlite)
    return found


def _candidates(registry: Registry, cutoff: int, dry_run: bool) -> tuple[int, list[tuple[str, int, int]]]:
    """How many commits are forgotten, and the blobs that nothing holds then. A dry run takes it back."""
    with registry.database.read() as connection:
        if not unreachable_commits(connection, cutoff):
            return 0, _not_held(connection, cutoff)
    with registry.database.exclusive() as connection:
        forgotten = forget_commits(connection, cutoff)
        candidates = _not_held(connection, cutoff)
        if dry_run:
            connection.rollback()
    return forgotten, candidates


def _not_held(connection: Connection, cutoff: int) -> list[tuple[str, int, int]]:
    held = select(repo_blobs.c.digest).where(repo_blobs.c.digest == blobs.c.digest).exists()
    query = select(blobs.c.digest, blobs.c.size_bytes, blobs.c.created_ms)
    return [tuple(row) for row in connection.execute(query.where(~held, blobs.c.created_ms < cutoff))]


def _remove(registry: Registry, digest: str, created_ms: int) -> bool:
    """First the record, then, where nobody recorded it again, the file: in between it is what a crash leaves."""
    held = select(repo_blobs.c.digest).where(repo_blobs.c.digest == digest).exists()
    same = (blobs.c.digest == digest, blobs.c.created_ms == created_ms)
    with registry.database.write() as connection:
        if not connection.execute(delete(blobs).where(*same, ~held)).rowcount:
            return False
        connection.execute(delete(sent_blobs).where(sent_blobs.c.digest == digest))
    return remove_unrecorded(registry, digest)


def _remove_derived(registry: Registry, digest: str) -> None:
    """What was made of the blob: small pictures, its chunk index."""
    name = digest.removeprefix("sha256:")
    for folder in ("thumbnails", "chunks"):
        for path in (registry.config.root / folder / name[:2]).glob(f"{name}*"):
            path.unlink(missing_ok=True)


def _unrecorded(registry: Registry, cutoff: int) -> Iterator[tuple[str, int]]:
    with registry.database.read() as connection:
        known = set(connection.scalars(select(blobs.c.digest)))
    for info in registry.store.all():
        if info.digest not in known and info.modified_ms < cutoff:
            yield info.digest, info.size_bytes


def remove_unrecorded(registry: Registry, digest: str) -> bool:
    """Remove a file that has no record, and what was made of it; returns whether it went.

    That happens while nobody writes: whoever is about to record the blob finds it gone, and learns that.
    """
    with registry.database.exclusive() as connection:
        if connection.scalar(select(blobs.c.digest).where(blobs.c.digest == digest)) is not None:
            return False
        registry.store.delete(digest)
    _remove_derived(registry, digest)
    return True


def _sweep(registry: Registry, grace_seconds: float) -> int:
    parts = PartFiles(registry.config.root / "uploads").sweep(grace_seconds)
    runs = Runs(registry.config.root / RUNS_FOLDER).sweep(grace_seconds)
    sampling = sweep_work_folders(registry.config.root / WORK_FOLDER)
    return parts + runs + sampling + registry.store.sweep_incoming(grace_seconds)


def _forget_xorbs(connection: Connection, cutoff: int) -> None:
    """Places that are gone, and xorbs without any place left."""
    connection.execute(delete(xet_sent).where(xet_sent.c.created_ms < cutoff))
    for table in (xet_segments, xet_files):
        there = select(blobs.c.digest).where(blobs.c.digest == table.c.digest).exists()
        connection.execute(delete(table).where(~there))
    whole = select(xet_sent.c.xorb).where(xet_sent.c.xorb == xet_xorbs.c.hash).exists()
    part = select(xet_segments.c.xorb).where(xet_segments.c.xorb == xet_xorbs.c.hash).exists()
    if connection.execute(delete(xet_xorbs).where(~whole, ~part)).rowcount:
        end_all_scopes(connection)
    known = select(xet_xorbs.c.hash).where(xet_xorbs.c.hash == xet_chunks.c.xorb).exists()
    connection.execute(delete(xet_chunks).where(~known))


def _prune_trees(connection: Connection, is_sqlite: bool) -> int:
    """Rows of trees that no commit reaches. No commit may be on its way meanwhile: it could build on such rows."""
    if not is_sqlite:
        connection.execute(text("LOCK TABLE tree_entries IN SHARE ROW EXCLUSIVE MODE"))
    reached = select(commits.c.tree.label("tree")).cte("reached", recursive=True)
    below = select(tree_entries.c.oid).join(reached, tree_entries.c.tree == reached.c.tree)
    reached = reached.union(below.where(tree_entries.c.kind == "tree"))
    unreached = tree_entries.c.tree.not_in(select(reached.c.tree))
    count = connection.scalar(select(func.count()).select_from(tree_entries).where(unreached)) or 0
    connection.execute(delete(tree_entries).where(unreached))
    return count
