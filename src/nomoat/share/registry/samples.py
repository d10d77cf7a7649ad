"""Sample chats of repositories: what a runner answered, each entered into the hub's signed log when it was made."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from nomoat.base.errors import NotFoundError
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.event_log import EventLog
from nomoat.share.registry.history import Commit
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.schema import events, repos, samples
from nomoat.share.trust.envelope import canonical_json

__all__ = ["WORK_FOLDER", "Sample", "Samples"]

WORK_FOLDER = "sampling"
"""In a hub's folder: what a run that makes sample chats needs meanwhile, see `base.work_folders`."""

_KIND = "sample"
_ENTRY = "log_entry"


@dataclass(frozen=True)
class Sample:
    """A sample chat. `recorded`: the hub's log has an entry of this very content, so nobody wrote it in later."""

    id: int
    commit: str
    content: dict[str, Any]
    created_ms: int
    recorded: bool


class Samples:
    """Adds, lists and removes sample chats. Callers have checked that the `Repo` may be read."""

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database, self._log = database, log

    def add(
        self, repo: Repo, commit: Commit, content: Mapping[str, Any], instead_of: Collection[int] = ()
    ) -> Sample:
        """Keep a chat and enter it into the log; those numbered `instead_of` go in the same moment.

        Raises `NotFoundError` where the repository was deleted or taken down meanwhile.
        """
        with self._database.write() as connection:
            here = select(repos.c.id).where(repos.c.id == repo.id, repos.c.taken_down.is_(False))
            if connection.scalar(here) is None:
                raise NotFoundError(f"{repo.name} is no longer here", "nothing was kept of this answer")
            payload = {"repo": repo.name.key, "commit": commit.oid, "sha256": _sha256(content)}
            event = self._log.append(_KIND, payload, connection)
            kept = {**content, _ENTRY: event.seq}
            created_ms = now_ms()
            row = {"repo_id": repo.id, "commit": commit.oid, "content": kept, "created_ms": created_ms}
            number = connection.execute(insert(samples).values(row).returning(samples.c.id)).scalar_one()
            for other in instead_of:
                connection.execute(delete(samples).where(samples.c.id == other, samples.c.repo_id == repo.id))
        return Sample(number, commit.oid, kept, created_ms, True)

    def of(self, repo: Repo, commit: str = "", limit: int = 12) -> list[Sample]:
        """The newest ones, those of `commit` before all others."""
        first = (samples.c.commit == commit).desc()
        query = select(samples).where(samples.c.repo_id == repo.id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(first, samples.c.id.desc()).limit(limit)).all()
            logged = _logged(connection, rows)
        return [_sample(row, logged) for row in rows]

    def numbers(self, repo: Repo, commit: Commit) -> list[int]:
        """Of all that were made of a commit."""
        where = (samples.c.repo_id == repo.id, samples.c.commit == commit.oid)
        with self._database.read() as connection:
            return list(connection.scalars(select(samples.c.id).where(*where)))


def _logged(connection: Connection, rows: Iterable[Row[Any]]) -> dict[int, Mapping[str, Any]]:
    query = select(events.c.seq, events.c.payload).where(
        events.c.seq.in_({_entry(row.content) for row in rows}), events.c.kind == _KIND
    )
    return {row.seq: row.payload for row in connection.execute(query)}


def _entry(content: Any) -> int:
    number = content.get(_ENTRY) if isinstance(content, dict) else None
    # Nothing that the column could not hold, and no `true`, which Python takes for a number and PostgreSQL does not.
    return number if type(number) is int and 0 < number < 1 << 63 else 0


def _sample(row: Row[Any], logged: Mapping[int, Mapping[str, Any]]) -> Sample:
    content = row.content if isinstance(row.content, dict) else {}
    entry = logged.get(_entry(content), {})
    own = {name: value for name, value in content.items() if name != _ENTRY}
    recorded = entry.get("commit") == row.commit and entry.get("sha256") == _sha256(own)
    return Sample(row.id, row.commit, content, row.created_ms, recorded)


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content)).hexdigest()
