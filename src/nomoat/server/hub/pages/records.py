"""What was noted about a repository besides its files: signatures, who likes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from nomoat.server.hub.hub import Hub
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.schema import likes, signatures

__all__ = ["Signature", "likes_it", "signatures_of"]


@dataclass(frozen=True)
class Signature:
    """A signature over the files of a commit."""

    commit: str
    key_id: str
    valid: bool
    details: dict[str, Any]

    @property
    def is_foreign(self) -> bool:
        """Whether it may hold, but by a key that nobody registered for the owner."""
        return not self.valid and self.details.get("state") == "unknown signer"


def signatures_of(hub: Hub, repo: Repo) -> list[Signature]:
    """Signatures of all its commits, newest first."""
    columns = (signatures.c.commit, signatures.c.key_id, signatures.c.valid, signatures.c.details)
    query = (
        select(*columns).where(signatures.c.repo_id == repo.id).order_by(signatures.c.id.desc()).limit(200)
    )
    with hub.registry.database.read() as connection:
        return [Signature(*row) for row in connection.execute(query)]


def likes_it(hub: Hub, who: Identity, repo: Repo) -> bool:
    """Whether the visitor likes it."""
    if not who.known:
        return False
    with hub.registry.database.read() as connection:
        query = select(likes.c.repo_id).where(likes.c.repo_id == repo.id, likes.c.user_id == who.user_id)
        return connection.scalar(query) is not None
