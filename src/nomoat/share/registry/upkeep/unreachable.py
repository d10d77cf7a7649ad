"""Commits that no branch and no tag leads to any more: they go as git's do, after a time of grace.

A commit stays while it, or one that was built on it, is younger than the grace, was the head of a branch or tag that
was deleted within the grace (git's reflog), is named in a discussion of its repository, or has a sample chat.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, Select, and_, delete, select, union

from nomoat.share.registry.holders import digests_of
from nomoat.share.registry.schema import commits, discussions, events, refs, repo_blobs, samples, signatures

__all__ = ["forget_commits", "unreachable_commits"]

_AT_ONCE = 500
_NAMED = re.compile(r"\b[0-9a-f]{7,40}\b")
_DELETED = "ref-deleted"


def unreachable_commits(connection: Connection, cutoff_ms: int) -> dict[int, set[str]]:
    """Ids of commits to be forgotten, by repository. `cutoff_ms` is when the grace began."""
    gone: dict[int, dict[str, str]] = defaultdict(dict)
    for row in connection.execute(_not_reached(cutoff_ms)):
        gone[row.repo_id][row.oid] = row.parent
    if not gone:
        return {}
    deleted_lately = _deleted_since(connection, cutoff_ms)
    left = {
        repo_id: set(parents) - _with_ancestors(_held(connection, repo_id, parents, deleted_lately), parents)
        for repo_id, parents in gone.items()
    }
    return {repo_id: oids for repo_id, oids in left.items() if oids}


def forget_commits(connection: Connection, cutoff_ms: int) -> int:
    """Delete them, and what was noted of them; their files are held no more where no other commit has them.

    Nobody else may write meanwhile.
    """
    found = unreachable_commits(connection, cutoff_ms)
    for repo_id, oids in found.items():
        for part in _parts(sorted(oids)):
            connection.execute(delete(commits).where(commits.c.repo_id == repo_id, commits.c.oid.in_(part)))
            connection.execute(
                delete(signatures).where(signatures.c.repo_id == repo_id, signatures.c.commit.in_(part))
            )
        _let_blobs_go(connection, repo_id)
    return sum(map(len, found.values()))


def _not_reached(cutoff_ms: int) -> Select[tuple[int, str, str]]:
    """Commits that neither a ref nor a young commit leads to."""
    heads = select(refs.c.repo_id, refs.c.commit.label("oid"))
    young = select(commits.c.repo_id, commits.c.oid).where(commits.c.created_ms >= cutoff_ms)
    starts = union(heads, young).subquery()
    reached = select(starts.c.repo_id, starts.c.oid).cte("reached", recursive=True)
    same = and_(commits.c.repo_id == reached.c.repo_id, commits.c.oid == reached.c.oid)
    above = select(commits.c.repo_id, commits.c.parent).join(reached, same).where(commits.c.parent != "")
    reached = reached.union(above)
    here = and_(reached.c.repo_id == commits.c.repo_id, reached.c.oid == commits.c.oid)
    query = select(commits.c.repo_id, commits.c.oid, commits.c.parent).outerjoin(reached, here)
    return query.where(reached.c.oid.is_(None))


def _deleted_since(connection: Connection, cutoff_ms: int) -> set[str]:
    """Heads of branches and tags that were deleted lately, as the log tells."""
    query = select(events.c.payload).where(events.c.kind == _DELETED, events.c.created_ms >= cutoff_ms)
    return {str(payload.get("commit")) for payload in connection.scalars(query)}


def _held(connection: Connection, repo_id: int, oids: Iterable[str], deleted_lately: set[str]) -> set[str]:
    """Those of `oids` that something other than a ref needs."""
    with_samples = set(connection.scalars(select(samples.c.commit).where(samples.c.repo_id == repo_id)))
    named = _named_in_discussions(connection, repo_id)
    return {
        oid
        for oid in oids
        if oid in deleted_lately or oid in with_samples or any(oid.startswith(word) for word in named)
    }


def _named_in_discussions(connection: Connection, repo_id: int) -> set[str]:
    query = select(discussions.c.title, discussions.c.comments).where(discussions.c.repo_id == repo_id)
    words: set[str] = set()
    for row in connection.execute(query):
        texts = [row.title, *(str(each.get("text", "")) for each in row.comments)]
        words.update(word for text in texts for word in _NAMED.findall(text.lower()))
    return words


def _with_ancestors(oids: set[str], parents: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    waiting = list(oids)
    while waiting:
        oid = waiting.pop()
        if oid in parents and oid not in found:
            found.add(oid)
            waiting.append(parents[oid])
    return found


def _let_blobs_go(connection: Connection, repo_id: int) -> None:
    """Of what was noted as the repository's own, keep what its commits still have."""
    kept = {blob.digest for blob in digests_of(connection, repo_id)}
    noted = connection.scalars(select(repo_blobs.c.digest).where(repo_blobs.c.repo_id == repo_id))
    for part in _parts(sorted(set(noted) - kept)):
        where = (repo_blobs.c.repo_id == repo_id, repo_blobs.c.digest.in_(part))
        connection.execute(delete(repo_blobs).where(*where))


def _parts(values: list[str]) -> Iterable[list[str]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))
