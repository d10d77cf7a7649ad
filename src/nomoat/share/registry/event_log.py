"""What happened on a hub, in order: each entry names the one before by its hash and is signed with the hub's key.

Whoever notes the last hash (`head`) can find out later that an entry was changed, left out or moved.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, text

from nomoat.base.errors import InputError
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.schema import events, properties
from nomoat.share.trust.envelope import canonical_json
from nomoat.share.trust.keys import PublicKey, SigningKey, owner_key, owner_key_path

__all__ = ["Event", "EventLog"]

_HUB, _KEY = "hub", "hub_key"
_FIRST = "0" * 64
_AT_ONCE = 1000


@dataclass(frozen=True)
class Event:
    """One entry. `hash` is over all the others but the signature; `before` is the hash of the entry before."""

    seq: int
    created_ms: int
    kind: str
    payload: Mapping[str, Any]
    before: str
    hash: str
    signature: str

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


class EventLog:
    """The log of a registry. Nothing is ever changed in it or removed from it."""

    def __init__(self, database: Database, root: Path) -> None:
        """The hub's key is in `root/keys`, made when the first entry is."""
        self._database, self._root = database, root
        self._lock = threading.Lock()
        self._key: SigningKey | None = None

    @property
    def key(self) -> SigningKey:
        """The key that this hub signs with."""
        with self._lock:
            if self._key is None:
                self._key = owner_key(self._root, _HUB)
            return self._key

    def require_own_key(self) -> None:
        """Raise `InputError` where the folder's key is not the one that this log is signed with."""
        known = self._database.property(_KEY)
        if known is None:
            row = {"name": _KEY, "value": self.key.public.pem}
            with self._database.write() as connection:
                connection.execute(self._database.insert_missing(properties).values(row))
            known = self._database.property(_KEY)
        path = owner_key_path(self._root, _HUB)
        if not path.exists() or self.key.public.pem != known:
            raise InputError(f"{path}: is not the key with which this hub signs",
                             f"copy {path.parent.name}/ from the hub's first folder or from a backup")  # fmt: skip

    def append(self, kind: str, payload: Mapping[str, Any], connection: Connection | None = None) -> Event:
        """Add an entry; with `connection` inside that transaction, so that both happen or neither.

        `payload` holds JSON's types and no floats, whose text differs from database to database.
        """
        if connection is None:
            with self._database.write() as own:
                return self._append(own, kind, payload)
        return self._append(connection, kind, payload)

    def since(self, seq: int, kinds: Collection[str] = (), limit: int = _AT_ONCE) -> list[Event]:
        """Entries after `seq`, oldest first; with `kinds` those only."""
        query = select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(limit)
        if kinds:
            query = query.where(events.c.kind.in_(list(kinds)))
        with self._database.read() as connection:
            return [_event(row) for row in connection.execute(query)]

    def head(self) -> tuple[int, str]:
        """Number and hash of the newest entry."""
        with self._database.read() as connection:
            return _head(connection)

    def verify(self, noted: Mapping[int, str] | None = None, key: PublicKey | None = None) -> list[str]:
        """What is wrong with the log, one sentence each; empty where all is as it was written.

        `noted` maps numbers of entries to the hashes that somebody kept elsewhere: without one, entries cut off
        at the end cannot be missed.
        """
        problems, before, at = [], _FIRST, 0
        public, missing = key or self.key.public, dict(noted or {})
        while entries := self.since(at):
            for event in entries:
                problems += _problems(event, at + 1, before, public)
                if missing.pop(event.seq, event.hash) != event.hash:
                    problems.append(f"entry {event.seq} is not the one that was noted")
                before, at = event.hash, event.seq
        return problems + [f"entry {seq} is missing: the log ends at {at}" for seq in sorted(missing)]

    def _append(self, connection: Connection, kind: str, payload: Mapping[str, Any]) -> Event:
        if not self._database.is_sqlite:
            # Two writers that read the same last entry would both follow it.
            connection.execute(text("LOCK TABLE events IN EXCLUSIVE MODE"))
        seq, before = _head(connection)
        created = now_ms()
        digest = _hash(seq + 1, created, kind, payload, before)
        signature = base64.b64encode(self.key.sign(_signed(digest))).decode()
        event = Event(seq + 1, created, kind, payload, before, digest, signature)
        connection.execute(insert(events).values(event.as_json()))
        return event


def _head(connection: Connection) -> tuple[int, str]:
    row = connection.execute(
        select(events.c.seq, events.c.hash).order_by(events.c.seq.desc()).limit(1)
    ).first()
    return (row.seq, row.hash) if row else (0, _FIRST)


def _problems(event: Event, seq: int, before: str, public: PublicKey) -> list[str]:
    found = []
    if event.seq != seq or event.before != before:
        found.append(f"entry {event.seq} does not follow the one before")
    if _hash(event.seq, event.created_ms, event.kind, event.payload, event.before) != event.hash:
        found.append(f"entry {event.seq} was changed")
    try:
        signature = base64.b64decode(event.signature, validate=True)
    except binascii.Error:
        signature = b""
    if not public.verifies(signature, _signed(event.hash)):
        found.append(f"entry {event.seq} is not signed with the hub's key")
    return found


def _hash(seq: int, created_ms: int, kind: str, payload: Mapping[str, Any], before: str) -> str:
    content = {"seq": seq, "created_ms": created_ms, "kind": kind, "payload": payload, "before": before}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def _signed(digest: str) -> bytes:
    # The prefix keeps a signature over an entry from being one over anything else.
    return f"nomoat event v1\n{digest}".encode()


def _event(row: Any) -> Event:
    return Event(row.seq, row.created_ms, row.kind, row.payload, row.before, row.hash, row.signature)
