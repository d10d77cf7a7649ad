"""What the registry noted about a repository besides its files: signatures, origin, sample chats, discussions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select

from nomoat.server.hub.hub import Hub
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.repos import Repo, repo_of
from nomoat.share.registry.schema import access_requests, discussions, likes, lineage, repos, samples, signatures, users

__all__ = ["Edge", "Sample", "Signature", "access_requests_of", "derived_from", "discussions_of", "likes_it",
           "lineage_of", "samples_of", "signatures_of"]  # fmt: skip

_MOST_DERIVED = 60


@dataclass(frozen=True)
class Edge:
    """A thing that this one was made from. `state`: verified, declared, unknown."""

    repo_id: int
    path: str
    relation: str
    base_name: str
    base_digest: str
    state: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """An answer that somebody can have again: same bytes, same prompt, same seed."""

    commit: str
    content: dict[str, Any]
    created_ms: int


@dataclass(frozen=True)
class Signature:
    """A signature over the files of a commit."""

    commit: str
    key_id: str
    valid: bool
    details: dict[str, Any]


def lineage_of(hub: Hub, repo_ids: Sequence[int]) -> list[Edge]:
    """The edges that lead from these repositories to what they were made from."""
    columns = (lineage.c.repo_id, lineage.c.path, lineage.c.relation, lineage.c.base_name, lineage.c.base_digest,
               lineage.c.state, lineage.c.evidence)  # fmt: skip
    with hub.registry.database.read() as connection:
        rows = connection.execute(select(*columns).where(lineage.c.repo_id.in_(repo_ids)).order_by(lineage.c.id))
        return [Edge(*row) for row in rows]


def derived_from(hub: Hub, who: Identity, repo: Repo) -> tuple[list[Repo], int]:
    """Repositories that name this one as their base and that `who` may see, most liked first, and how many in all."""
    name = str(repo.name)
    named = select(lineage.c.repo_id).where(func.lower(lineage.c.base_name) == name.lower())
    where = or_(func.lower(repos.c.base_model) == name.lower(), repos.c.id.in_(named))
    query = select(repos).where(where, repos.c.id != repo.id, repos.c.taken_down.is_(False))
    if not who.is_admin:
        own = [owner for owner, _ in who.roles]
        query = query.where(or_(repos.c.private.is_(False), repos.c.owner_id.in_(own)))
    with hub.registry.database.read() as connection:
        total = connection.scalar(select(func.count()).select_from(query.subquery())) or 0
        rows = connection.execute(query.order_by(repos.c.likes.desc(), repos.c.id).limit(_MOST_DERIVED))
        return [repo_of(row) for row in rows], total


def samples_of(hub: Hub, repo: Repo) -> list[Sample]:
    """Sample chats, newest first."""
    columns = (samples.c.commit, samples.c.content, samples.c.created_ms)
    query = select(*columns).where(samples.c.repo_id == repo.id).order_by(samples.c.id.desc()).limit(12)
    with hub.registry.database.read() as connection:
        return [Sample(*row) for row in connection.execute(query)]


def signatures_of(hub: Hub, repo: Repo) -> list[Signature]:
    """Signatures of all its commits, newest first."""
    columns = (signatures.c.commit, signatures.c.key_id, signatures.c.valid, signatures.c.details)
    query = select(*columns).where(signatures.c.repo_id == repo.id).order_by(signatures.c.id.desc()).limit(200)
    with hub.registry.database.read() as connection:
        return [Signature(*row) for row in connection.execute(query)]


def discussions_of(hub: Hub, repo: Repo) -> list[Any]:
    """Discussions, newest first."""
    query = select(discussions).where(discussions.c.repo_id == repo.id).order_by(discussions.c.number.desc())
    with hub.registry.database.read() as connection:
        return list(connection.execute(query.limit(500)))


def likes_it(hub: Hub, who: Identity, repo: Repo) -> bool:
    """Whether the visitor likes it."""
    if not who.known:
        return False
    with hub.registry.database.read() as connection:
        query = select(likes.c.repo_id).where(likes.c.repo_id == repo.id, likes.c.user_id == who.user_id)
        return connection.scalar(query) is not None


def access_requests_of(hub: Hub, repo: Repo) -> list[Any]:
    """Who asked to be let in: rows of name, status, created_ms."""
    query = select(users.c.name, access_requests.c.status, access_requests.c.created_ms).join(
        users, users.c.id == access_requests.c.user_id
    )
    with hub.registry.database.read() as connection:
        where = query.where(access_requests.c.repo_id == repo.id)
        return list(connection.execute(where.order_by(access_requests.c.created_ms.desc()).limit(500)))
