"""People, organisations and their tokens: who somebody is, and what that lets them do."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from nomoat.base.errors import DiskFullError, InputError, NotFoundError, OverloadedError
from nomoat.share.errors import ConflictError, ForbiddenError, UnauthorizedError
from nomoat.share.names import check_owner
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.event_log import EventLog
from nomoat.share.registry.schema import members, session_tokens, tokens, users
from nomoat.share.trust.keys import PublicKey

__all__ = ["ANONYMOUS", "Account", "Accounts", "Identity", "Scope", "TokenInfo", "count_accounts"]

Scope = Literal["read", "write", "admin"]
_SCOPES = ("read", "write", "admin")
# What Hugging Face's clients and llama.cpp take for a token: `hf_` and letters and digits, at least 34.
_ALPHABET, _TOKEN_LETTERS = string.ascii_letters + string.digits, 40
_USED_EVERY_MS = 60_000


@dataclass(frozen=True)
class Account:
    """A person or an organisation."""

    id: int
    name: str
    kind: str
    full_name: str
    about: str
    is_admin: bool
    suspended: bool
    quota_bytes: int | None
    public_key: str
    created_ms: int


@dataclass(frozen=True)
class TokenInfo:
    """A token without its secret."""

    id: int
    label: str
    scope: Scope
    repo_id: int | None
    created_ms: int
    used_ms: int | None
    expires_ms: int | None


@dataclass(frozen=True)
class Identity:
    """Who asks, and with what power. `name` is empty for somebody unknown.

    `roles` maps the id of each account that they may act for to a role: their own, and their organisations'.
    """

    user_id: int = 0
    name: str = ""
    scope: Scope = "read"
    repo_id: int | None = None
    is_admin: bool = False
    token_id: int | None = None
    roles: tuple[tuple[int, str], ...] = ()

    @property
    def known(self) -> bool:
        """Whether it is somebody."""
        return bool(self.name)

    def may_read(self, owner_id: int, repo_id: int | None = None) -> bool:
        """Whether they see what `owner_id` keeps private."""
        return self._reaches(repo_id) and (self.is_admin or owner_id in dict(self.roles))

    def may_write(self, owner_id: int, repo_id: int | None = None) -> bool:
        """Whether they may change what `owner_id` owns."""
        role = "admin" if self.is_admin else dict(self.roles).get(owner_id)
        return self.scope in {"write", "admin"} and self._reaches(repo_id) and role in {"write", "admin"}

    def require_known(self) -> None:
        """Raise `UnauthorizedError` for somebody unknown."""
        if not self.known:
            raise UnauthorizedError("this needs a token", "log in: `nomoat login`, or set HF_TOKEN")

    def require_write(self, owner_id: int, what: str, repo_id: int | None = None) -> None:
        """Raise `UnauthorizedError` or `ForbiddenError` where they may not change it."""
        self.require_known()
        if not self.may_write(owner_id, repo_id):
            raise ForbiddenError(f"{self.name} may not write to {what}",
                                 "use a token with the scope 'write' of somebody who may")  # fmt: skip

    def require_admin(self) -> None:
        """Raise where they do not run this hub, or their token is not for that."""
        self.require_known()
        if not self.is_admin or self.scope != "admin":
            raise ForbiddenError(
                f"{self.name} does not run this hub", "use an admin's token with the scope 'admin'"
            )

    def _reaches(self, repo_id: int | None) -> bool:
        return self.repo_id is None or self.repo_id == repo_id


ANONYMOUS = Identity()


class Accounts:
    """The accounts of a registry."""

    def __init__(self, database: Database, events: EventLog | None = None) -> None:
        self._database, self._events = database, events

    # -- people and organisations --------------------------------------------------------------------

    def add(self, name: str, *, kind: str = "user", full_name: str = "", is_admin: bool = False) -> Account:
        """A new account. Raises `ConflictError` where the name is taken, `InputError` where it cannot be one."""
        check_owner(name)
        row = {"name": name, "key": name.lower(), "kind": kind, "full_name": full_name, "is_admin": is_admin,
               "created_ms": now_ms()}  # fmt: skip
        try:
            with self._database.write() as connection:
                connection.execute(insert(users).values(row))
        except IntegrityError as error:
            raise ConflictError(f"the name {name!r} is taken", "choose another one") from error
        return self.get(name)

    def get(self, name: str) -> Account:
        """The account of that name. Raises `NotFoundError`."""
        account = self.find(name)
        if account is None:
            raise NotFoundError(f"nobody is named {name[:60]!r} here", "check the name")
        return account

    def find(self, name: str) -> Account | None:
        """The account of that name, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(users).where(users.c.key == name.lower())).first()
        return _account(row) if row else None

    def by_id(self, account_id: int) -> Account:
        """The account with that id."""
        with self._database.read() as connection:
            row = connection.execute(select(users).where(users.c.id == account_id)).first()
        if row is None:
            raise NotFoundError("that account is gone")
        return _account(row)

    def all(self) -> list[Account]:
        """Every account, by name."""
        with self._database.read() as connection:
            return [_account(row) for row in connection.execute(select(users).order_by(users.c.key))]

    def change(self, name: str, **values: Any) -> Account:
        """Set fields of an account: full_name, about, is_admin, suspended, quota_bytes, public_key."""
        account = self.get(name)
        if values.get("public_key"):
            values["public_key"] = PublicKey.parse(values["public_key"]).pem
        with self._database.write() as connection:
            connection.execute(update(users).where(users.c.id == account.id).values(**values))
            self._log(connection, "account", {"account": account.name, "changed": sorted(values)})
        return self.get(name)

    def remove(self, name: str) -> None:
        """Delete an account with all that it owns."""
        account = self.get(name)
        with self._database.write() as connection:
            connection.execute(delete(users).where(users.c.id == account.id))

    def set_member(self, org: str, user: str, role: str | None) -> None:
        """Give `user` a role in `org` (admin, write, read), or None to take it."""
        if role not in {None, *("admin", "write", "read")}:
            raise InputError(f"{role!r} is no role", "use admin, write or read")
        keys = {"org_id": self.get(org).id, "user_id": self.get(user).id}
        with self._database.write() as connection:
            connection.execute(delete(members).filter_by(**keys))
            if role is not None:
                connection.execute(insert(members).values(**keys, role=role))

    # -- tokens --------------------------------------------------------------------------------------

    def add_token(
        self, name: str, label: str, scope: Scope = "read", *, repo_id: int | None = None,
        expires_ms: int | None = None, made_with: int | None = None,
    ) -> str:  # fmt: skip
        """A new token of `name`. It is returned here and never again: the database holds its hash.

        `made_with` is the id of a token with which this one ends.
        """
        if scope not in _SCOPES:
            raise InputError(f"{scope!r} is no scope", f"use one of {', '.join(_SCOPES)}")
        account = self.get(name)
        token = "hf_" + "".join(secrets.choice(_ALPHABET) for _ in range(_TOKEN_LETTERS))
        row = {"user_id": account.id, "label": label[:100] or "token", "hash": _hash(token), "scope": scope,
               "repo_id": repo_id, "created_ms": now_ms(), "expires_ms": expires_ms}  # fmt: skip
        with self._database.write() as connection:
            connection.execute(insert(tokens).values(row))
            if made_with is not None:
                _tie(connection, row["hash"], made_with)
            self._log(connection, "token", {"account": account.name, "label": row["label"], "scope": scope})
        return token

    def tokens(self, name: str) -> list[TokenInfo]:
        """The tokens of `name`, without their secrets."""
        columns = (tokens.c.id, tokens.c.label, tokens.c.scope, tokens.c.repo_id, tokens.c.created_ms, tokens.c.used_ms,
                   tokens.c.expires_ms)  # fmt: skip
        query = select(*columns).where(tokens.c.user_id == self.get(name).id).order_by(tokens.c.id)
        with self._database.read() as connection:
            return [TokenInfo(*row) for row in connection.execute(query)]

    def revoke_token(self, name: str, token_id: int) -> None:
        """End a token and the sessions that were begun with it. Raises `NotFoundError` where `name` has none such."""
        query = delete(tokens).where(tokens.c.id == token_id, tokens.c.user_id == self.get(name).id)
        begun = select(session_tokens.c.token_id).where(session_tokens.c.made_with == token_id)
        with self._database.write() as connection:
            if not connection.execute(query).rowcount:
                raise NotFoundError(
                    f"{name} has no token {token_id}", "the list of tokens shows their numbers"
                )
            connection.execute(delete(tokens).where(tokens.c.id.in_(begun)))
            self._log(connection, "token-revoked", {"account": name, "token": token_id})

    def identify(self, token: str | None) -> Identity:
        """Who sends this token; `ANONYMOUS` for none. Raises `UnauthorizedError` where it is not valid (any more)."""
        if not token:
            return ANONYMOUS
        query = select(tokens, users.c.name, users.c.is_admin, users.c.suspended).join(users)
        with self._database.read() as connection:
            row = connection.execute(query.where(tokens.c.hash == _hash(token))).first()
            if row is None or row.suspended or (row.expires_ms is not None and row.expires_ms < now_ms()):
                raise UnauthorizedError("nobody is known by this token", "make a new one and log in again")
            roles = _roles(connection, row.user_id)
        self._note_use(row.id, row.used_ms)
        return Identity(row.user_id, row.name, row.scope, row.repo_id, row.is_admin, row.id, roles)

    def identity(self, name: str, scope: Scope = "admin") -> Identity:
        """The identity of `name` without a token: for commands on the hub's own machine, and for tests."""
        account = self.get(name)
        with self._database.read() as connection:
            return Identity(
                account.id, account.name, scope, None, account.is_admin, None, _roles(connection, account.id)
            )

    def organisations(self, name: str) -> list[tuple[Account, str]]:
        """The organisations of a person, with their role."""
        joined = select(users, members.c.role).join(members, members.c.org_id == users.c.id)
        query = joined.where(members.c.user_id == self.get(name).id).order_by(users.c.key)
        with self._database.read() as connection:
            return [(_account(row), row.role) for row in connection.execute(query)]

    def _log(self, connection: Connection, kind: str, payload: dict[str, Any]) -> None:
        if self._events is not None:
            self._events.append(kind, payload, connection)

    def _note_use(self, token_id: int, used_ms: int | None) -> None:
        """Not at each request: reading would become writing."""
        if used_ms is not None and now_ms() - used_ms < _USED_EVERY_MS:
            return
        statement = update(tokens).where(tokens.c.id == token_id).values(used_ms=now_ms())
        # Who may read still may where the disk is full or the database busy.
        with contextlib.suppress(DiskFullError, OverloadedError), self._database.write() as connection:
            connection.execute(statement)


def _tie(connection: Connection, hash: Any, made_with: int) -> None:
    """Let a token end with another one, which may have ended a moment ago."""
    if connection.scalar(select(tokens.c.id).where(tokens.c.id == made_with)) is None:
        raise UnauthorizedError("nobody is known by this token", "make a new one and log in again")
    token_id = connection.scalar(select(tokens.c.id).where(tokens.c.hash == hash))
    connection.execute(insert(session_tokens).values(token_id=token_id, made_with=made_with))


def count_accounts(connection: Connection) -> int:
    """How many accounts there are."""
    return connection.scalar(select(func.count()).select_from(users)) or 0


def _hash(token: str) -> str:
    # A token holds 238 random bits: nothing slower than sha256 is needed to protect it.
    return hashlib.sha256(token.encode()).hexdigest()


def _account(row: Any) -> Account:
    return Account(row.id, row.name, row.kind, row.full_name, row.about, row.is_admin, row.suspended, row.quota_bytes,
                   row.public_key, row.created_ms)  # fmt: skip


def _roles(connection: Connection, user_id: int) -> tuple[tuple[int, str], ...]:
    query: Iterable[Any] = connection.execute(
        select(members.c.org_id, members.c.role).where(members.c.user_id == user_id)
    )
    return ((user_id, "admin"), *((row.org_id, row.role) for row in query))
