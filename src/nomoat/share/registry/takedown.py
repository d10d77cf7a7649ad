"""Takedowns: a repository or a blob is removed from view for a stated reason, signed by the hub, and can come back.

The signed statements are in the event log, from which a mirror reads them (`recalls`) and does the same
(`honour_recalls`). Nothing is erased: the hub's admin still sees what was taken down, and can restore it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from sqlalchemy import Connection, delete, insert, select, update

from nomoat.base.errors import InputError, NotFoundError
from nomoat.share.errors import TakenDownError
from nomoat.share.names import RepoKind, RepoName, check_digest, is_digest
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.event_log import EventLog
from nomoat.share.registry.holders import HeldBlob, digests_of, held_elsewhere
from nomoat.share.registry.schema import properties, repos, tombstones
from nomoat.share.trust.envelope import open_bundle, seal, statement
from nomoat.share.trust.keys import PublicKey

if TYPE_CHECKING:
    from nomoat.share.registry.registry import Registry

__all__ = ["RECALL_KINDS", "Honoured", "Recall", "Takedowns", "honour_recalls", "parse_target"]

RECALL_KINDS = ("takedown", "restore")
_PREDICATE = "urn:nomoat:takedown:v1"
_LONGEST_REASON = 2000
Target = RepoName | str


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


def parse_target(text: str) -> Target:
    """`model:owner/name`, `dataset:owner/name` or `sha256:...`. Raises `InputError`."""
    kind, _, name = text.partition(":")
    if kind in {"model", "dataset"}:
        return RepoName.parse(cast(RepoKind, kind), name)
    return check_digest(text)


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
            held = digests_of(connection, repo_id) if repo_id else [HeldBlob(_key(target), True)]
            gone = [each.digest for each in held if each.lfs and (also_blobs or not repo_id)]
            bundle = self._seal("takedown", target, reason, [each.digest for each in held], gone)
            connection.execute(delete(tombstones).where(tombstones.c.target == _key(target)))
            _bury_all(connection, {_key(target), *gone}, reason, bundle.decode())
            if repo_id:
                self._hide(connection, repo_id, [each.digest for each in held], reason)
            self._log_it(connection, "takedown", _key(target), who.name, bundle, private)

    def restore(self, who: Identity, target: Target, reason: str) -> None:
        """Undo a takedown. Raises `NotFoundError` where there is none."""
        who.require_admin()
        reason = _checked_reason(reason)
        key = _key(target)
        with self._database.write() as connection:
            own = _signature(connection, key)
            if not own:
                raise NotFoundError(f"{key} is not taken down", "check the name or digest")
            private = isinstance(target, RepoName) and _is_private(connection, target)
            because = select(tombstones.c.target).where(tombstones.c.signature == own)
            back = [row.target for row in connection.execute(because) if is_digest(row.target)]
            bundle = self._seal("restore", target, reason, [], back)
            _unbury(connection, target, back)
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
            bundle = _signature(connection, _key(target))
        return json.loads(bundle) if bundle else None

    def _hide(self, connection: Connection, repo_id: int, held: list[str], reason: str) -> None:
        """The repository, and those of its blobs that nothing else holds."""
        connection.execute(update(repos).where(repos.c.id == repo_id).values(taken_down=True))
        _bury_all(connection, set(held) - held_elsewhere(connection, held, repo_id), reason, "")

    def _seal(
        self,
        action: Literal["takedown", "restore"],
        target: Target,
        reason: str,
        held: list[str],
        gone: list[str],
    ) -> bytes:
        subject = [(digest, digest) for digest in sorted(held)] or [(_key(target), "")]
        predicate = {"action": action, "target": _key(target), "blobs": sorted(gone), "reason": reason,
                     "issued_ms": now_ms()}  # fmt: skip
        return seal(statement(subject, _PREDICATE, predicate), self._log.key)

    def _log_it(
        self, connection: Connection, kind: str, key: str, who: str, bundle: bytes, private: bool
    ) -> None:
        payload = {"target": key, "by": who, "private": private, "bundle": bundle.decode()}
        self._log.append(kind, payload, connection)


@dataclass(frozen=True)
class Honoured:
    """What a mirror did with a list of recalls: targets taken down, restored, and passed over with the reason."""

    taken_down: tuple[str, ...]
    restored: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


def honour_recalls(registry: Registry, recalls: Iterable[Mapping[str, Any]], trusted: PublicKey) -> Honoured:
    """Do on this hub what the hub with the key `trusted` did; entries that were honoured before are passed over.

    A repository goes only where it has the name *and* a file of the one that was taken down: the same name on
    another hub may be something else.
    """
    taken: list[str] = []
    restored: list[str] = []
    skipped: list[tuple[str, str]] = []
    for entry in recalls:
        named = str(entry.get("target", "?"))[:300]
        try:
            predicate, digests = _opened(entry, trusted)
            target = parse_target(str(predicate["target"]))
            outcome = _honour(registry, predicate, target, digests, json.dumps(entry["bundle"]), trusted)
        except (InputError, NotFoundError, KeyError, TypeError, ValueError) as error:
            skipped.append((named, str(error)))
            continue
        if outcome:
            skipped.append((named, outcome))
        else:
            (taken if predicate["action"] == "takedown" else restored).append(_key(target))
    return Honoured(tuple(taken), tuple(restored), tuple(skipped))


def _opened(entry: Mapping[str, Any], trusted: PublicKey) -> tuple[Mapping[str, Any], set[str]]:
    opened = open_bundle(json.dumps(entry["bundle"]).encode(), [trusted])
    if opened.signer is None:
        raise InputError("it is not signed with the key of the hub that this one follows", "ask that hub")
    if opened.statement["predicateType"] != _PREDICATE:
        raise InputError("it is no takedown", "")
    digests = {str(each.get("name")) for each in opened.statement["subject"]}
    return opened.statement["predicate"], {digest for digest in digests if is_digest(digest)}


def _honour(
    registry: Registry, predicate: Mapping[str, Any], target: Target, digests: set[str], bundle: str,
    trusted: PublicKey,
) -> str:  # fmt: skip
    """Apply one statement; returns why it was passed over, or nothing."""
    issued, mark = int(predicate["issued_ms"]), f"recall:{trusted.key_id[:16]}"
    with registry.database.write() as connection:
        if issued <= _last_honoured(connection, mark, _key(target)):
            return "honoured before"
        if _decided_here(connection, _key(target), trusted):
            return "taken down by this hub itself"
        if predicate["action"] == "restore":
            own = [each for each in _digests(predicate) if not _decided_here(connection, each, trusted)]
            _unbury(connection, target, own)
        elif not _honour_takedown(connection, predicate, target, digests, bundle):
            return "not here"
        _note_honoured(connection, mark, _key(target), issued)
        payload = {"action": predicate["action"], "target": _key(target), "key_id": trusted.key_id}
        registry.events.append("recall", payload, connection)
    return ""


def _decided_here(connection: Connection, key: str, trusted: PublicKey) -> bool:
    """Whether the tombstone that stands is not of the hub that is followed: that hub may not touch it."""
    bundle = _signature(connection, key)
    return bool(bundle) and open_bundle(bundle.encode(), [trusted]).signer is None


def _honour_takedown(
    connection: Connection, predicate: Mapping[str, Any], target: Target, digests: set[str], bundle: str
) -> bool:
    """Whether anything here was concerned."""
    reason = str(predicate["reason"])[:_LONGEST_REASON]
    gone = _digests(predicate)
    repo_id = None
    if isinstance(target, RepoName):
        repo_id = connection.scalar(select(repos.c.id).where(repos.c.key == target.key))
        if repo_id and not digests & {each.digest for each in digests_of(connection, repo_id)}:
            repo_id = None
    if repo_id is None and not gone:
        return False
    _bury_all(connection, gone, reason, bundle)
    if repo_id:
        _bury_all(connection, [_key(target)], reason, bundle)
        connection.execute(update(repos).where(repos.c.id == repo_id).values(taken_down=True))
        held = [each.digest for each in digests_of(connection, repo_id)]
        _bury_all(connection, set(held) - held_elsewhere(connection, held, repo_id), reason, "")
    return True


def _digests(predicate: Mapping[str, Any]) -> list[str]:
    return [str(digest) for digest in predicate["blobs"] if is_digest(str(digest))]


def _last_honoured(connection: Connection, mark: str, key: str) -> int:
    value = connection.scalar(select(properties.c.value).where(properties.c.name == mark))
    return int(json.loads(value).get(key, 0)) if value else 0


def _note_honoured(connection: Connection, mark: str, key: str, issued_ms: int) -> None:
    value = connection.scalar(select(properties.c.value).where(properties.c.name == mark))
    known = {**(json.loads(value) if value else {}), key: issued_ms}
    connection.execute(delete(properties).where(properties.c.name == mark))
    connection.execute(insert(properties).values(name=mark, value=json.dumps(known)))


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


def _bury_all(connection: Connection, keys: Iterable[str], reason: str, bundle: str) -> None:
    """Tombstones, where none with a bundle stands: that one has a reason of its own.

    One without a bundle holds only until another repository holds that blob, too.
    """
    content = open_bundle(bundle.encode(), []).statement if bundle else {}
    for key in sorted(keys):
        if _signature(connection, key):
            continue
        connection.execute(delete(tombstones).where(tombstones.c.target == key))
        connection.execute(insert(tombstones).values(
            target=key, reason=reason, statement=content, signature=bundle, created_ms=now_ms()
        ))  # fmt: skip


def _unbury(connection: Connection, target: Target, digests: Iterable[str]) -> None:
    """Remove the tombstone of `target`, those of `digests`, and those that stand only because of them."""
    for key in {_key(target), *digests}:
        connection.execute(delete(tombstones).where(tombstones.c.target == key))
    if isinstance(target, RepoName):
        connection.execute(update(repos).where(repos.c.key == target.key).values(taken_down=False))
        repo_id = connection.scalar(select(repos.c.id).where(repos.c.key == target.key)) or 0
        for each in digests_of(connection, repo_id):
            where = (tombstones.c.target == each.digest, tombstones.c.signature == "")
            connection.execute(delete(tombstones).where(*where))


def _signature(connection: Connection, key: str) -> str:
    """The bundle by which something was taken down; empty where it was not, or only because of something else."""
    query = select(tombstones.c.signature).where(tombstones.c.target == key).limit(1)
    return connection.scalar(query) or ""


def _key(target: Target) -> str:
    return target if isinstance(target, str) else target.key


def _checked_reason(reason: str) -> str:
    if not reason.strip() or len(reason) > _LONGEST_REASON:
        raise InputError("a takedown needs a reason", f"say why, in up to {_LONGEST_REASON:,} characters")
    return reason.strip()
