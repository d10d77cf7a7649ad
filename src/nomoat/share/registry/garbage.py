"""Garbage collection: blobs that no commit of any repository holds go, once nobody has sent them for a while.

A push sends its blobs first and commits afterwards. So a blob is kept for a grace period after it was last sent or
asked for, and goes only in a transaction beside which nobody writes, after a second look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, select

from nomoat.base.progress import Progress
from nomoat.share.blobs.parts import PartFiles
from nomoat.share.registry.database import now_ms
from nomoat.share.registry.holders import held_anywhere, reachable_digests, reachable_trees
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.schema import (
    blobs,
    repo_blobs,
    sent_blobs,
    tree_entries,
    xet_chunks,
    xet_files,
    xet_segments,
    xet_xorbs,
)

__all__ = ["GRACE_SECONDS", "Collected", "collect"]

GRACE_SECONDS = 24 * 3600
_RECORDED_MS = 3600 * 1000  # an upload whose file is there has its record by then
_AT_ONCE = 50  # blobs deleted while others wait to write
Item = TypeVar("Item")


@dataclass
class Collected:
    """What went, or with `dry_run` would go."""

    dry_run: bool
    blobs: int = 0
    bytes: int = 0
    kept_blobs: int = 0
    unrecorded_blobs: int = 0
    uploads: int = 0
    trees: int = 0

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


def collect(registry: Registry, progress: Progress, grace_seconds: float = GRACE_SECONDS, *,
            dry_run: bool = False) -> Collected:  # fmt: skip
    """Delete what nothing needs and what is older than `grace_seconds`; safe while others push.

    A grace of 0 may take a blob from under a push that is under way: that push is told to send it again.
    """
    found, before = Collected(dry_run), now_ms() - int(grace_seconds * 1000)
    unneeded = _unneeded(registry, before, found)
    progress.start("deleting unneeded blobs", len(unneeded), "blobs")
    for part in _parts(unneeded):
        if dry_run:
            _count(found, part)
        else:
            _delete(registry, part, before, found)
        progress.advance(len(part))
    _delete_unrecorded(registry, before, found)
    if not dry_run:
        _forget(registry, found)
        found.uploads = registry.store.sweep_incoming() + PartFiles(registry.config.root / "uploads").sweep()
    progress.finish()
    return found


_Blob = tuple[str, int, int]
"""Digest, size, when it was last sent."""


def _unneeded(registry: Registry, before: int, found: Collected) -> list[_Blob]:
    with registry.database.read() as connection:
        needed = reachable_digests(connection)
        rows = connection.execute(select(blobs.c.digest, blobs.c.size_bytes, blobs.c.created_ms))
        unneeded: list[_Blob] = []
        for row in rows:
            if row.digest in needed or row.created_ms > before:
                found.kept_blobs += 1
            else:
                unneeded.append((row.digest, row.size_bytes, row.created_ms))
    return unneeded


def _delete(registry: Registry, part: Sequence[_Blob], before: int, found: Collected) -> None:
    """Record and file in one transaction: whoever records the same blob meanwhile does so before it or after it."""
    with registry.database.exclusive() as connection:
        needed = held_anywhere(connection, [digest for digest, _, _ in part])
        for blob in part:
            digest, _, created = blob
            info = registry.store.info(digest)
            # A file younger than its record was sent just now, and will be recorded as soon as this ends.
            if digest in needed or (info is not None and info.modified_ms > before):
                continue
            same = (blobs.c.digest == digest, blobs.c.created_ms == created)
            if connection.execute(delete(blobs).where(*same)).rowcount:
                registry.store.delete(digest)
                _count(found, [blob])


def _delete_unrecorded(registry: Registry, before: int, found: Collected) -> None:
    """Blobs whose upload ended between the file and its record."""
    before = min(before, now_ms() - _RECORDED_MS)
    for part in _parts(_unrecorded(registry, before)):
        if not found.dry_run:
            with registry.database.exclusive() as connection:
                recorded = _recorded(connection, part)
                for digest in set(part) - recorded:
                    registry.store.delete(digest)
        found.unrecorded_blobs += len(part)


def _unrecorded(registry: Registry, before: int) -> Iterator[str]:
    old = (info.digest for info in registry.store.all() if info.modified_ms <= before)
    for part in _parts(old):
        with registry.database.read() as connection:
            recorded = _recorded(connection, part)
        yield from (digest for digest in part if digest not in recorded)


def _recorded(connection: Connection, digests: Iterable[str]) -> set[str]:
    return set(connection.scalars(select(blobs.c.digest).where(blobs.c.digest.in_(list(digests)))))


def _forget(registry: Registry, found: Collected) -> None:
    """What is said of blobs that are gone, and folders that are in no commit."""
    there = select(blobs.c.digest)
    with registry.database.exclusive() as connection:
        for table in (sent_blobs, repo_blobs, xet_segments, xet_files):
            connection.execute(delete(table).where(table.c.digest.not_in(there)))
        placed = select(xet_segments.c.xorb)
        nowhere = (xet_xorbs.c.digest.not_in(there), xet_xorbs.c.hash.not_in(placed))
        connection.execute(delete(xet_xorbs).where(*nowhere))
        connection.execute(delete(xet_chunks).where(xet_chunks.c.xorb.not_in(select(xet_xorbs.c.hash))))
        unused = tree_entries.c.tree.not_in(select(reachable_trees().c.tree))
        found.trees = connection.execute(delete(tree_entries).where(unused)).rowcount


def _count(found: Collected, part: Iterable[_Blob]) -> None:
    for _, size, _ in part:
        found.blobs += 1
        found.bytes += size


def _parts(items: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(items)
    while part := list(islice(left, _AT_ONCE)):
        yield part
