"""Which repositories hold which blobs, in any of their commits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Select, select

from nomoat.share.registry.schema import commits, repos, tree_entries

__all__ = ["HeldBlob", "digests_of", "held_elsewhere", "holders_of"]

_AT_ONCE = 500


@dataclass(frozen=True)
class HeldBlob:
    """A blob that a repository holds."""

    digest: str
    lfs: bool


def digests_of(connection: Connection, repo_id: int) -> list[HeldBlob]:
    """Every blob in every commit of a repository."""
    roots = select(commits.c.tree.label("tree")).where(commits.c.repo_id == repo_id)
    below = roots.cte("below", recursive=True)
    inner = select(tree_entries.c.oid).join(below, tree_entries.c.tree == below.c.tree)
    below = below.union(inner.where(tree_entries.c.kind == "tree"))
    query = select(tree_entries.c.digest, tree_entries.c.lfs).join(below, tree_entries.c.tree == below.c.tree)
    rows = connection.execute(query.where(tree_entries.c.digest.is_not(None)).distinct())
    return [HeldBlob(row.digest, row.lfs) for row in rows]


def held_elsewhere(connection: Connection, digests: Iterable[str], repo_id: int) -> set[str]:
    """Those of `digests` that another repository holds which is not taken down."""
    wanted, found = sorted(set(digests)), set()
    for start in range(0, len(wanted), _AT_ONCE):
        found |= _held(connection, wanted[start : start + _AT_ONCE], repo_id)
    return found


def holders_of(connection: Connection, digest: str) -> list[int]:
    """Ids of the repositories that hold a blob, oldest first."""
    held = _holders([digest]).distinct().order_by(repos.c.id)
    return [row.id for row in connection.execute(held)]


def _held(connection: Connection, digests: list[str], repo_id: int) -> set[str]:
    held = _holders(digests).where(repos.c.taken_down.is_(False), repos.c.id != repo_id)
    return {row.digest for row in connection.execute(held.distinct())}


def _holders(digests: list[str]) -> Select[tuple[str, int]]:
    """Pairs of a blob and a repository, upwards from the blob through the trees to the commits."""
    start = select(tree_entries.c.tree.label("tree"), tree_entries.c.digest.label("digest"))
    above = start.where(tree_entries.c.digest.in_(digests)).cte("above", recursive=True)
    outer = select(tree_entries.c.tree, above.c.digest).join(above, tree_entries.c.oid == above.c.tree)
    above = above.union(outer.where(tree_entries.c.kind == "tree"))
    return (
        select(above.c.digest, repos.c.id)
        .join(commits, commits.c.tree == above.c.tree)
        .join(repos, repos.c.id == commits.c.repo_id)
    )
