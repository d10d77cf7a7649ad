"""Between people and repositories: who asked for access, who likes what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, or_, select

from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.database import Database
from nomoat.share.registry.repos import Repo, repo_of
from nomoat.share.registry.schema import access_requests, likes, repos, users

__all__ = ["AccessRequest", "AccessStatus", "Relations"]

AccessStatus = Literal["pending", "accepted", "rejected"]


@dataclass(frozen=True)
class AccessRequest:
    """Somebody's wish to download from a gated repository."""

    user: str
    user_id: int
    full_name: str
    status: str
    created_ms: int


class Relations:
    """Reads relations. Callers have checked that the `Repo` may be read, and for requests that it may be written."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def access_requests(self, repo: Repo, status: AccessStatus) -> list[AccessRequest]:
        """Requests in a state, newest first."""
        chosen = select(users.c.name, users.c.id, users.c.full_name, access_requests.c.status,
                        access_requests.c.created_ms)  # fmt: skip
        joined = chosen.join(users, users.c.id == access_requests.c.user_id)
        query = joined.where(access_requests.c.repo_id == repo.id, access_requests.c.status == status)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(access_requests.c.created_ms.desc()))
            return [AccessRequest(*row) for row in rows]

    def forget_access(self, repo: Repo, user_id: int) -> None:
        """As if somebody had never asked."""
        with self._database.write() as connection:
            connection.execute(delete(access_requests).filter_by(repo_id=repo.id, user_id=user_id))

    def likers(self, repo: Repo) -> list[tuple[str, str]]:
        """Name and full name of those who like it, newest first."""
        query = select(users.c.name, users.c.full_name).join(likes, likes.c.user_id == users.c.id)
        query = query.where(likes.c.repo_id == repo.id).order_by(likes.c.created_ms.desc())
        with self._database.read() as connection:
            return [(row.name, row.full_name) for row in connection.execute(query)]

    def liked_by(self, user_id: int, who: Identity) -> list[tuple[Repo, int]]:
        """What somebody likes and `who` may see, with the time (Unix milliseconds), newest first."""
        query = select(repos, likes.c.created_ms.label("liked_ms")).join(likes, likes.c.repo_id == repos.c.id)
        query = query.where(likes.c.user_id == user_id, repos.c.taken_down.is_(False))
        if not who.is_admin:
            own = [owner for owner, _ in who.roles]
            query = query.where(or_(repos.c.private.is_(False), repos.c.owner_id.in_(own)))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(likes.c.created_ms.desc()))
            return [(repo_of(row), row.liked_ms) for row in rows]
