"""What people say about a repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from nomoat.base.errors import NotFoundError
from nomoat.share.registry.database import Database
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.schema import discussions

__all__ = ["Comment", "Discussion", "Discussions"]

_MOST_NUMBER = 2**31 - 1  # a database's integer holds no more


@dataclass(frozen=True)
class Comment:
    """One contribution."""

    author: str
    text: str
    created_ms: int


@dataclass(frozen=True)
class Discussion:
    """A discussion; `status` is open or closed."""

    number: int
    title: str
    author: str
    status: str
    created_ms: int
    comments: tuple[Comment, ...]


class Discussions:
    """Reads discussions. Callers have checked that the `Repo` may be read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, repo: Repo) -> list[Discussion]:
        """All of a repository, newest first."""
        query = (
            select(discussions).where(discussions.c.repo_id == repo.id).order_by(discussions.c.number.desc())
        )
        with self._database.read() as connection:
            return [_discussion(row) for row in connection.execute(query)]

    def get(self, repo: Repo, number: int) -> Discussion:
        """One of them. Raises `NotFoundError`."""
        query = select(discussions).filter_by(repo_id=repo.id, number=min(number, _MOST_NUMBER))
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFoundError(f"{repo.name} has no discussion {number}", "its page lists them")
        return _discussion(row)


def _discussion(row: Any) -> Discussion:
    comments = tuple(Comment(str(each.get("author", "")), str(each.get("text", "")), int(each.get("created_ms", 0)))
                     for each in row.comments)  # fmt: skip
    return Discussion(row.number, row.title, row.author, row.status, row.created_ms, comments)
