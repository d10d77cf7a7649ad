"""What was refused goes at once, so far as nobody else has a right to it."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from nomoat.share.registry.registry import Registry
from nomoat.share.registry.schema import blobs, repo_blobs, sent_blobs, xet_files, xet_segments
from nomoat.share.registry.upkeep.garbage import remove_unrecorded
from nomoat.share.xet.scopes import end_scope

__all__ = ["drop_refused"]


def drop_refused(registry: Registry, user_id: int, digest: str) -> bool:
    """Remove a blob that this user sent and that may not be here; returns whether it went.

    It stays where a repository has it, where somebody else sent it too, and where somebody sends it right now: that
    one records it again (and it is younger than this user's claim), or finds it gone when he is about to be given a
    claim, and sends it again. Stopped in the middle it leaves a file without a record, as an interrupted upload does.
    """
    with registry.database.write() as connection:
        own = {"user_id": user_id, "digest": digest}
        sent_ms = connection.scalar(select(sent_blobs.c.created_ms).filter_by(**own))
        connection.execute(delete(sent_blobs).filter_by(**own))
        if sent_ms is None or not _forget(connection, digest, sent_ms):
            return False
        end_scope(connection, user_id)
    return remove_unrecorded(registry, digest)


def _forget(connection: Connection, digest: str, sent_ms: int) -> bool:
    """Its record and all that leads to it, where nobody has a right to it; returns whether they went."""
    held = select(repo_blobs.c.digest).where(repo_blobs.c.digest == digest).exists()
    sent = select(sent_blobs.c.digest).where(sent_blobs.c.digest == digest).exists()
    only_his = delete(blobs).where(blobs.c.digest == digest, blobs.c.created_ms <= sent_ms, ~held, ~sent)
    if not connection.execute(only_his).rowcount:
        return False
    for table in (xet_segments, xet_files):
        connection.execute(delete(table).where(table.c.digest == digest))
    return True
