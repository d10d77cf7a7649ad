"""Who may use a blob that is there already: who sent it, or may read it somewhere.

A digest alone is no claim. Otherwise whoever learns the sha256 of a private file could commit it, and read it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select

from nomoat.base.errors import OverloadedError
from nomoat.share.blobs.store import BlobInfo
from nomoat.share.errors import QuotaError
from nomoat.share.names import RepoName, check_digest
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.blob_records import BlobRecords
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.schema import access_requests, blobs, repo_blobs, repos, sent_blobs, xet_sent

__all__ = ["Claims"]


class Claims:
    """What each account has sent, and which repositories hold which blobs."""

    def __init__(self, database: Database, blobs: BlobRecords) -> None:
        self._database, self._blobs = database, blobs

    def note_sent(self, user_id: int, info: BlobInfo) -> None:
        """Somebody sent all bytes of a blob. Raises `OverloadedError` where it was removed in this very moment."""
        keys = {"user_id": user_id, "digest": info.digest}
        with self._database.write() as connection:
            if connection.scalar(select(blobs.c.digest).where(blobs.c.digest == info.digest)) is None:
                raise OverloadedError(f"{info.digest} was cleared away while it was written", "send it again")
            connection.execute(delete(sent_blobs).filter_by(**keys))
            row = {**keys, "size_bytes": info.size_bytes, "created_ms": now_ms()}
            connection.execute(insert(sent_blobs).values(row))

    def held(self, who: Identity, digest: str) -> BlobInfo | None:
        """The blob, where it is there and `who` may use it; None means that its bytes must be sent."""
        info = self._blobs.known(check_digest(digest))
        if info is None or not who.known:
            return None
        with self._database.read() as connection:
            sent = select(sent_blobs.c.digest).filter_by(user_id=who.user_id, digest=digest)
            if connection.scalar(sent) is not None:
                return info
            holders = _readable(who).where(repo_blobs.c.digest == digest).limit(1)
            return info if connection.execute(holders).first() is not None else None

    def repos_with(self, who: Identity, digest: str, limit: int = 50) -> list[RepoName]:
        """Repositories that hold a blob, or held it once, and from which `who` may download."""
        query = _readable(who).where(repo_blobs.c.digest == check_digest(digest)).limit(limit)
        with self._database.read() as connection:
            return [RepoName(row.kind, *row.full_name.split("/", 1)) for row in connection.execute(query)]

    def require_room(
        self, user_id: int, owner_id: int, size_bytes: int, coming_bytes: int = 0, *, digest: str = ""
    ) -> None:
        """Raise `QuotaError` where so many bytes are more than the owner may store.

        What the sender has sent and not committed counts, and so does what is on its way (`coming_bytes`). A `digest`
        that the owner's repositories hold takes no more room: its bytes come to replace damaged ones.
        """
        with self._database.read() as connection:
            room = self._blobs.quota_left(connection, owner_id)
            if room is None or (digest and _is_owners(connection, owner_id, digest)):
                return
            room -= coming_bytes + _uncommitted(connection, user_id)
        if size_bytes > room:
            raise QuotaError(f"{size_bytes:,} bytes are more than the {max(room, 0):,} that are left",
                             "delete what is no longer needed, or ask the hub's admin")  # fmt: skip


def _is_owners(connection: Connection, owner_id: int, digest: str) -> bool:
    joined = select(repo_blobs.c.digest).join(repos, repos.c.id == repo_blobs.c.repo_id)
    held = joined.where(repos.c.owner_id == owner_id, repo_blobs.c.digest == digest).limit(1)
    return connection.scalar(held) is not None


def _uncommitted(connection: Connection, user_id: int) -> int:
    committed = select(repo_blobs.c.digest).where(repo_blobs.c.digest == sent_blobs.c.digest).exists()
    query = select(func.sum(sent_blobs.c.size_bytes)).where(sent_blobs.c.user_id == user_id, ~committed)
    chunks = select(func.sum(xet_sent.c.size_bytes)).where(xet_sent.c.user_id == user_id)
    return int(connection.scalar(query) or 0) + int(connection.scalar(chunks) or 0)


def _readable(who: Identity) -> Any:
    """Repositories with blobs that `who` may download."""
    joined = select(repos.c.kind, repos.c.full_name).join(repo_blobs, repo_blobs.c.repo_id == repos.c.id)
    if who.is_admin and who.repo_id is None:
        return joined
    let_in = select(access_requests.c.repo_id).where(
        access_requests.c.repo_id == repos.c.id,
        access_requests.c.user_id == who.user_id,
        access_requests.c.status == "accepted",
    )
    public = and_(repos.c.private.is_(False), or_(repos.c.gated == "", let_in.exists()))
    own: Any = repos.c.owner_id.in_([owner for owner, _ in who.roles])
    if who.repo_id is not None:
        own = and_(own, repos.c.id == who.repo_id)
    return joined.where(repos.c.taken_down.is_(False), or_(public, own))
