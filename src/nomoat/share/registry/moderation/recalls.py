"""What another hub took down, done here as well: a mirror follows the signed statements of its origin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from nomoat.base.errors import InputError, NotFoundError
from nomoat.share.names import RepoName, is_digest
from nomoat.share.registry.holders import digests_of, held_elsewhere
from nomoat.share.registry.moderation.tombstones import (
    LONGEST_REASON,
    PREDICATE,
    Target,
    bury,
    key_of,
    parse_target,
    signature_of,
    unbury,
)
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.schema import properties, repos
from nomoat.share.trust.envelope import open_bundle
from nomoat.share.trust.keys import PublicKey

__all__ = ["Honoured", "honour_recalls"]


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
            (taken if predicate["action"] == "takedown" else restored).append(key_of(target))
    return Honoured(tuple(taken), tuple(restored), tuple(skipped))


def _opened(entry: Mapping[str, Any], trusted: PublicKey) -> tuple[Mapping[str, Any], set[str]]:
    opened = open_bundle(json.dumps(entry["bundle"]).encode(), [trusted])
    if opened.signer is None:
        raise InputError("it is not signed with the key of the hub that this one follows", "ask that hub")
    if opened.statement["predicateType"] != PREDICATE:
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
        if issued <= _last_honoured(connection, mark, key_of(target)):
            return "honoured before"
        if _decided_here(connection, key_of(target), trusted):
            return "taken down by this hub itself"
        if predicate["action"] == "restore":
            own = [each for each in _digests(predicate) if not _decided_here(connection, each, trusted)]
            unbury(connection, target, own)
        elif not _honour_takedown(connection, predicate, target, digests, bundle):
            return "not here"
        _note_honoured(connection, mark, key_of(target), issued)
        payload = {"action": predicate["action"], "target": key_of(target), "key_id": trusted.key_id}
        registry.events.append("recall", payload, connection)
    return ""


def _decided_here(connection: Connection, key: str, trusted: PublicKey) -> bool:
    """Whether the tombstone that stands is not of the hub that is followed: that hub may not touch it."""
    bundle = signature_of(connection, key)
    return bool(bundle) and open_bundle(bundle.encode(), [trusted]).signer is None


def _honour_takedown(
    connection: Connection, predicate: Mapping[str, Any], target: Target, digests: set[str], bundle: str
) -> bool:
    """Whether anything here was concerned."""
    reason = str(predicate["reason"])[:LONGEST_REASON]
    gone = _digests(predicate)
    repo_id = None
    if isinstance(target, RepoName):
        repo_id = connection.scalar(select(repos.c.id).where(repos.c.key == target.key))
        if repo_id and not digests & {each.digest for each in digests_of(connection, repo_id)}:
            repo_id = None
    if repo_id is None and not gone:
        return False
    bury(connection, gone, reason, bundle)
    if repo_id:
        bury(connection, [key_of(target)], reason, bundle)
        connection.execute(update(repos).where(repos.c.id == repo_id).values(taken_down=True))
        held = [each.digest for each in digests_of(connection, repo_id)]
        bury(connection, set(held) - held_elsewhere(connection, held, repo_id), reason, "")
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
