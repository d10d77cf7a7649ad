"""Repositories: made, found, moved, changed and removed; who sees them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from nomoat.base.errors import InputError, NotFoundError
from nomoat.share.errors import ConflictError, ForbiddenError, GatedError, TakenDownError
from nomoat.share.names import RepoKind, RepoName
from nomoat.share.registry.accounts import Accounts, Identity
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.event_log import EventLog
from nomoat.share.registry.popularity import LIKE_WEIGHT, score_with
from nomoat.share.registry.release_names import keep_releases, take_releases_along
from nomoat.share.registry.schema import access_requests, likes, moves, refs, repos, tombstones

__all__ = ["Repo", "Repos", "repo_of"]

_CHANGEABLE = {"private", "gated"}


@dataclass(frozen=True)
class Repo:
    """A repository as the gallery and the clients see it. Times are Unix milliseconds."""

    id: int
    name: RepoName
    owner_id: int
    private: bool
    gated: str
    created_ms: int
    modified_ms: int
    head: str | None
    downloads: int
    likes: int
    taken_down: bool
    size_bytes: int
    artefact: str
    architecture: str
    quantisation: str
    parameters: int | None
    licence: str
    pipeline_tag: str
    library: str
    base_model: str
    summary: str
    picture: str
    rating: str
    tags: tuple[str, ...]
    card: Mapping[str, Any]


class Repos:
    """The repositories of a registry. What an `Identity` may not see does not exist for it."""

    def __init__(self, database: Database, accounts: Accounts, events: EventLog | None = None) -> None:
        self._database, self._accounts, self._events = database, accounts, events

    def create(self, who: Identity, name: RepoName, *, private: bool = False) -> Repo:
        """A new, empty repository. Raises `ConflictError` where it exists, `ForbiddenError`."""
        owner = self._accounts.find(name.owner)
        if owner is None:
            raise ForbiddenError(
                f"nobody is named {name.owner!r} here", "use your own name or an organisation's"
            )
        who.require_write(owner.id, name.owner)
        name = RepoName(name.kind, owner.name, name.name)
        row = {"kind": name.kind, "owner_id": owner.id, "full_name": str(name), "key": name.key, "private": private,
               "created_ms": now_ms(), "modified_ms": now_ms(), "name_pieces": _pieces(name.name),
               "trending": score_with(0.0, 1.0, now_ms())}  # fmt: skip
        try:
            with self._database.write() as connection:
                _require_free(connection, name)
                connection.execute(insert(repos).values(row))
                connection.execute(delete(moves).where(moves.c.key == name.key))
        except IntegrityError as error:
            raise ConflictError(
                f"{name} exists already", "choose another name, or use the one that is there"
            ) from error
        return self.get(who, name)

    def get(self, who: Identity, name: RepoName) -> Repo:
        """The repository of that name, or of the one it was moved from.

        Raises `NotFoundError` (also where `who` may not see it) and `TakenDownError`.
        """
        with self._database.read() as connection:
            row = _find(connection, name)
            gone = (
                _reason(connection, row.key if row else name.key) if row is None or row.taken_down else None
            )
        repo = repo_of(row) if row is not None else None
        if (gone is not None or (repo and repo.taken_down)) and not (repo and who.is_admin):
            raise TakenDownError(f"{name} was taken down: {gone or 'nobody said why'}", "ask the hub's admin")
        if repo is None or (repo.private and not who.may_read(repo.owner_id, repo.id)):
            raise NotFoundError(
                f"no {name.kind} is named {name} here", "check the name, or log in if it is private"
            )
        return repo

    def get_for_download(self, who: Identity, name: RepoName) -> Repo:
        """As `get`, and `GatedError` where the owner has not let `who` in."""
        repo = self.get(who, name)
        if repo.gated and not who.may_read(repo.owner_id, repo.id) and not self._is_let_in(who, repo):
            hint = "ask for access on its page" if who.known else "log in, then ask for access on its page"
            raise GatedError(f"access to {repo.name} must be asked for", hint)
        return repo

    def get_for_writing(self, who: Identity, name: RepoName) -> Repo:
        """As `get`, and `ForbiddenError` or `UnauthorizedError` where `who` may not change it."""
        repo = self.get(who, name)
        who.require_write(repo.owner_id, str(repo.name), repo.id)
        return repo

    def change(self, who: Identity, name: RepoName, **values: Any) -> Repo:
        """Set `private` or `gated` ("", "auto", "manual")."""
        repo = self.get_for_writing(who, name)
        if unknown := set(values) - _CHANGEABLE:
            raise InputError(
                f"{min(unknown)!r} is no setting", f"use one of {', '.join(sorted(_CHANGEABLE))}"
            )
        if values.get("gated", "") not in {"", "auto", "manual"}:
            raise InputError(f"gated: {values['gated']!r}", "use 'auto', 'manual' or ''")
        with self._database.write() as connection:
            connection.execute(update(repos).where(repos.c.id == repo.id).values(**values))
        return self.get(who, repo.name)

    def move(self, who: Identity, source: RepoName, target: RepoName) -> Repo:
        """Give it another name or owner; the old name leads to it until somebody takes it.

        Its releases keep their meaning under both: raises `ConflictError` where one had another there.
        """
        repo = self.get_for_writing(who, source)
        owner = self._accounts.get(target.owner)
        who.require_write(owner.id, target.owner)
        target = RepoName(source.kind, owner.name, target.name)
        values = {"owner_id": owner.id, "full_name": str(target), "key": target.key,
                  "name_pieces": _pieces(target.name)}  # fmt: skip
        try:
            with self._database.write() as connection:
                _require_free(connection, repo.name)  # its tombstone names it as it is
                _require_free(connection, target)
                take_releases_along(self._database, connection, repo.name, target, repo.id)
                connection.execute(update(repos).where(repos.c.id == repo.id).values(values))
                connection.execute(delete(moves).where(moves.c.key.in_([repo.name.key, target.key])))
                if repo.name.key != target.key:
                    connection.execute(insert(moves).values(key=repo.name.key, repo_id=repo.id))
                self._log(connection, "move", {"repo": repo.name.key, "to": target.key, "by": who.name})
        except IntegrityError as error:
            raise ConflictError(f"{target} exists already", "choose another name") from error
        return self.get(who, target)

    def delete(self, who: Identity, name: RepoName, *, even_releases: bool = False) -> None:
        """Remove it with its history. Its blobs go with the next garbage collection.

        Others rely on releases: raises `ForbiddenError` where there are some, unless `even_releases`. The event log
        keeps what they were.
        """
        repo = self.get_for_writing(who, name)
        with self._database.write() as connection:
            released = select(refs.c.name, refs.c.commit).where(refs.c.repo_id == repo.id, refs.c.immutable)
            releases = {
                row.name.removeprefix("refs/tags/"): row.commit for row in connection.execute(released)
            }
            if releases and not even_releases:
                raise ForbiddenError(f"{repo.name} has releases: {', '.join(sorted(releases)[:5])}",
                                     "its settings page asks whether they go, too")  # fmt: skip
            keep_releases(self._database, connection, repo.name, repo.id)
            connection.execute(delete(repos).where(repos.c.id == repo.id))
            payload = {"repo": repo.name.key, "by": who.name, "head": repo.head or "", "releases": releases}
            self._log(connection, "delete", payload)

    def count_download(self, repo: Repo, count: int = 1) -> None:
        """So many more."""
        with self._database.write() as connection:
            score = self._trending(connection, repo.id, float(count), now_ms())
            values = {"downloads": repos.c.downloads + count, "trending": score}
            connection.execute(update(repos).where(repos.c.id == repo.id).values(values))

    def like(self, who: Identity, name: RepoName, liked: bool) -> None:
        """Like it, or no longer."""
        who.require_known()
        repo = self.get(who, name)
        keys = {"user_id": who.user_id, "repo_id": repo.id}
        with self._database.write() as connection:
            before = connection.scalar(select(likes.c.created_ms).filter_by(**keys))
            if liked == (before is not None):
                return
            if liked:
                connection.execute(insert(likes).values(**keys, created_ms=now_ms()))
            else:
                connection.execute(delete(likes).filter_by(**keys))
            change = 1 if liked else -1
            score = self._trending(connection, repo.id, change * LIKE_WEIGHT, before or now_ms())
            values = {"likes": repos.c.likes + change, "trending": score}
            connection.execute(update(repos).where(repos.c.id == repo.id).values(values))

    def _trending(self, connection: Connection, repo_id: int, weight: float, when_ms: int) -> float:
        # Of two writers the second waits here: in PostgreSQL each would count from the same score otherwise.
        score = connection.scalar(select(repos.c.trending).where(repos.c.id == repo_id).with_for_update())
        return score_with(score or 0.0, weight, when_ms)

    def ask_for_access(self, who: Identity, name: RepoName) -> str:
        """Ask to be let in; returns the state: pending or accepted."""
        who.require_known()
        repo = self.get(who, name)
        state = "accepted" if repo.gated != "manual" else "pending"
        row = self._database.insert_missing(access_requests).values(
            repo_id=repo.id, user_id=who.user_id, status=state, created_ms=now_ms()
        )
        with self._database.write() as connection:
            connection.execute(row)
            return connection.scalar(_request(repo.id, who.user_id)) or state

    def decide_access(self, who: Identity, name: RepoName, user: str, accepted: bool) -> None:
        """Let somebody in, or not."""
        repo = self.get_for_writing(who, name)
        keys = {"repo_id": repo.id, "user_id": self._accounts.get(user).id}
        status = "accepted" if accepted else "rejected"
        with self._database.write() as connection:
            connection.execute(delete(access_requests).filter_by(**keys))
            connection.execute(insert(access_requests).values(**keys, status=status, created_ms=now_ms()))

    def _log(self, connection: Connection, kind: str, payload: dict[str, Any]) -> None:
        if self._events is not None:
            self._events.append(kind, payload, connection)

    def _is_let_in(self, who: Identity, repo: Repo) -> bool:
        if not who.known:
            return False
        with self._database.read() as connection:
            return bool(connection.scalar(_request(repo.id, who.user_id)) == "accepted")


def _pieces(name: str) -> str:
    """`Tiny Llama` of `TinyLlama`: so that each word of a name can be searched."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


def _request(repo_id: int, user_id: int) -> Any:
    return select(access_requests.c.status).filter_by(repo_id=repo_id, user_id=user_id)


def _find(connection: Connection, name: RepoName) -> Row[Any] | None:
    found = connection.execute(select(repos).where(repos.c.key == name.key)).first()
    if found is not None:
        return found
    moved = select(repos).join(moves, moves.c.repo_id == repos.c.id).where(moves.c.key == name.key)
    return connection.execute(moved).first()


def _reason(connection: Connection, key: str) -> str | None:
    return connection.scalar(select(tombstones.c.reason).where(tombstones.c.target == key).limit(1))


def _require_free(connection: Connection, name: RepoName) -> None:
    """What was taken down does not come back by being made or moved anew: only its admin restores it."""
    reason = _reason(connection, name.key)
    if reason is not None:
        raise TakenDownError(
            f"{name} was taken down: {reason}", "choose another name, or ask the hub's admin"
        )


def repo_of(row: Row[Any]) -> Repo:
    """A row of `repos` as a `Repo`."""
    owner, _, name = row.full_name.partition("/")
    return Repo(
        row.id, RepoName(cast(RepoKind, row.kind), owner, name), row.owner_id, row.private, row.gated, row.created_ms,
        row.modified_ms, row.head, row.downloads, row.likes, row.taken_down, row.size_bytes, row.artefact,
        row.architecture, row.quantisation, row.parameters, row.licence, row.pipeline_tag, row.library, row.base_model,
        row.summary, row.picture, row.rating, tuple(row.tags or ()), row.card or {},
    )  # fmt: skip
