"""Takedowns: a repository or a blob is removed from view for a stated reason, signed by the hub, and can come back.

The signed statements are in the event log, from which a mirror reads them (`Takedowns.recalls`) and does the same
(`honour_recalls`). Nothing is erased: the hub's admin still sees what was taken down, and can restore it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, select, update

from nomoat.base.errors import InputError, NotFoundError
from nomoat.share.errors import TakenDownError
from nomoat.share.names import RepoName, check_digest, is_digest
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.event_log import EventLog
from nomoat.share.registry.holders import HeldBlob, digests_of, held_elsewhere
from nomoat.share.registry.moderation.tombstones import (
    LONGEST_REASON,
    PREDICATE,
    Target,
    bury,
    key_of,
    signature_of,
    unbury,
)
from nomoat.share.registry.schema import repos, tombstones
from nomoat.share.trust.envelope import seal, statement

__all__ = ["RECALL_KINDS", "Recall", "Takedowns"]

RECALL_KINDS = ("takedown", "restore")


@dataclass(frozen=True)
class Recall:
    """A takedown or restore as other hubs read it; `bundle` is the signed statement."""

    seq: int
    action: str
    target: str
    bundle: str

    def as_json(self) -> dict[str, Any]:
        """An entry of `GET /api/nomoat/recalls`."""
        return {
            "seq": self.seq,
            "action": self.action,
            "target": self.target,
            "bundle": json.loads(self.bundle),
        }


class Takedowns:
    """Takes down and restores."""

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database, self._log = database, log

    def take_down(self, who: Identity, target: Target, reason: str, *, also_blobs: bool = False) -> None:
        """Remove a repository or blob from view. Raises `ForbiddenError` for all but the hub's admin.

        Blobs that only this repository holds are not served by digest any more, until another one holds them.
        With `also_blobs` its large files are taken down themselves: nobody can commit them again.
        """
        who.require_admin()
        reason = _checked_reason(reason)
        with self._database.write() as connection:
            repo_id, private = _find(connection, target)
            held = digests_of(connection, repo_id) if repo_id else [HeldBlob(key_of(target), True)]
            gone = [each.digest for each in held if each.lfs and (also_blobs or not repo_id)]
            bundle = self._seal("takedown", target, reason, [each.digest for each in held], gone)
            connection.execute(delete(tombstones).where(tombstones.c.target == key_of(target)))
            bury(connection, {key_of(target), *gone}, reason, bundle.decode())
            if repo_id:
                self._hide(connection, repo_id, [each.digest for each in held], reason)
            self._log_it(connection, "takedown", key_of(target), who.name, bundle, private)

    def restore(self, who: Identity, target: Target, reason: str) -> None:
        """Undo a takedown. Raises `NotFoundError` where there is none."""
        who.require_admin()
        reason = _checked_reason(reason)
        key = key_of(target)
        with self._database.write() as connection:
            own = signature_of(connection, key)
            if not own:
                raise NotFoundError(f"{key} is not taken down", "check the name or digest")
            private = isinstance(target, RepoName) and _is_private(connection, target)
            because = select(tombstones.c.target).where(tombstones.c.signature == own)
            back = [row.target for row in connection.execute(because) if is_digest(row.target)]
            bundle = self._seal("restore", target, reason, [], back)
            unbury(connection, target, back)
            self._log_it(connection, "restore", key, who.name, bundle, private)

    def require_served(self, digest: str) -> None:
        """Raise `TakenDownError` where the bytes of that digest are not to be handed out."""
        query = select(tombstones.c.reason).where(tombstones.c.target == check_digest(digest)).limit(1)
        with self._database.read() as connection:
            reason = connection.scalar(query)
        if reason is not None:
            raise TakenDownError(f"{digest} was taken down: {reason}", "ask the hub's admin")

    def recalls(self, since: int = 0, limit: int = 1000) -> list[Recall]:
        """Takedowns and restores after entry `since` of the log, without those of private repositories."""
        found = self._log.since(since, RECALL_KINDS, limit)
        return [
            Recall(event.seq, event.kind, event.payload["target"], event.payload["bundle"])
            for event in found
            if not event.payload.get("private")
        ]

    def statement_of(self, target: Target) -> Mapping[str, Any] | None:
        """The bundle by which something was taken down, for its page; None where it was not."""
        with self._database.read() as connection:
            bundle = signature_of(connection, key_of(target))
        return json.loads(bundle) if bundle else None

    def _hide(self, connection: Connection, repo_id: int, held: list[str], reason: str) -> None:
        """The repository, and those of its blobs that nothing else holds."""
        connection.execute(update(repos).where(repos.c.id == repo_id).values(taken_down=True))
        bury(connection, set(held) - held_elsewhere(connection, held, repo_id), reason, "")

    def _seal(
        self,
        action: Literal["takedown", "restore"],
        target: Target,
        reason: str,
        held: list[str],
        gone: list[str],
    ) -> bytes:
        subject = [(digest, digest) for digest in sorted(held)] or [(key_of(target), "")]
        predicate = {"action": action, "target": key_of(target), "blobs": sorted(gone), "reason": reason,
                     "issued_ms": now_ms()}  # fmt: skip
        return seal(statement(subject, PREDICATE, predicate), self._log.key)

    def _log_it(
        self, connection: Connection, kind: str, key: str, who: str, bundle: bytes, private: bool
    ) -> None:
        payload = {"target": key, "by": who, "private": private, "bundle": bundle.decode()}
        self._log.append(kind, payload, connection)


def _is_private(connection: Connection, name: RepoName) -> bool:
    """Of one that was deleted since, nobody knows any more: then its name is kept from others."""
    found = connection.scalar(select(repos.c.private).where(repos.c.key == name.key))
    return found is None or bool(found)


def _find(connection: Connection, target: Target) -> tuple[int, bool]:
    """The repository's id (0 for a blob), and whether it is private."""
    if isinstance(target, str):
        check_digest(target)
        return 0, False
    row = connection.execute(select(repos.c.id, repos.c.private).where(repos.c.key == target.key)).first()
    if row is None:
        raise NotFoundError(f"no {target.kind} is named {target} here", "check the name")
    return row.id, bool(row.private)


def _checked_reason(reason: str) -> str:
    if not reason.strip() or len(reason) > LONGEST_REASON:
        raise InputError("a takedown needs a reason", f"say why, in up to {LONGEST_REASON:,} characters")
    return reason.strip()
