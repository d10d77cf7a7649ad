"""The database: SQLite beside the blobs, or PostgreSQL. Short transactions, in SQLite one writer at a time."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.dml import Insert

from nomoat.base.errors import DiskFullError, InputError, NomoatError, OverloadedError
from nomoat.share.registry.migration import migrate
from nomoat.share.registry.schema import SCHEMA_VERSION, metadata, properties
from nomoat.share.registry.search import index as search_index

__all__ = ["Database", "now_ms"]

_BUSY_SECONDS = 30
# First of all the patience: even to switch to WAL may have to wait for another process.
_PRAGMAS = (f"busy_timeout={_BUSY_SECONDS * 1000}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON",
            "cache_size=-8000", "temp_store=MEMORY", "mmap_size=0")  # fmt: skip
# PostgreSQL's advisory lock that every writer shares and that `exclusive` has alone.
_WRITERS_LOCK = 0x6E6F6D6F6174
_FULL_SQLSTATES = {"53100", "53400"}  # disk full; a configured limit was exceeded
_BUSY_SQLSTATES = {
    "40001",
    "40P01",
    "53300",
    "55P03",
}  # serialisation, deadlock, too many connections, lock timeout
_BAD_DATA = (
    "22"  # the class of SQLSTATEs for values that do not fit: a NUL in a text, more than a column holds
)


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Database:
    """Connections and transactions. Use `read` or `write`; everything inside `write` happens, or nothing does.

    A `write` must not begin inside another one: it would wait for itself.
    """

    def __init__(self, url: str) -> None:
        """Open, and make the tables where there are none. `url` as SQLAlchemy has it; a path is a SQLite file.

        Raises `InputError` where it cannot be reached or was made by another version.
        """
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # Threads queue here; SQLite's own way to wait is to try again ever more seldom.
        self._writer = threading.Lock()
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reading = self.engine.execution_options(**options)
        self._writing = self.engine.execution_options(begin="IMMEDIATE")
        try:
            self._prepare()
        except SQLAlchemyError as error:
            raise InputError(f"{self.engine.url.render_as_string()}: {error}",
                             "check that the database runs and that its user may create tables") from error  # fmt: skip

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection whose statements all see the state of the database at the first of them."""
        with _database_errors(), self._reading.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block and rolled back where it raises."""
        with self._transaction("pg_advisory_xact_lock_shared") as connection:
            yield connection

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[Connection]:
        """As `write`, and no other `write` is under way at the same time, in any process."""
        with self._transaction("pg_advisory_xact_lock") as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self, lock: str) -> Iterator[Connection]:
        if not self.is_sqlite:
            with _database_errors(), self._writing.begin() as connection:
                connection.execute(text(f"SELECT {lock}(:key)"), {"key": _WRITERS_LOCK})
                yield connection
            return
        if not self._writer.acquire(timeout=_BUSY_SECONDS):
            raise _overloaded()
        try:
            with _database_errors(), self._writing.begin() as connection:
                yield connection
        finally:
            self._writer.release()

    def insert_missing(self, table: Any) -> Insert:
        """An INSERT for `table` that leaves rows as they are whose key is there already."""
        dialect = sqlite if self.is_sqlite else postgresql
        statement: Insert = (
            dialect.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
        )
        return statement

    def property(self, name: str) -> str | None:
        """A property of the whole registry."""
        with self.read() as connection:
            return connection.scalar(select(properties.c.value).where(properties.c.name == name))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _prepare(self) -> None:
        # Several processes may open a new registry at once: one of them makes the tables.
        with self.exclusive() as connection:
            self._require_letters(connection)
            metadata.create_all(connection)
            search_index.create(connection)
            known = connection.scalar(select(properties.c.value).where(properties.c.name == "schema_version"))
            if known is None:
                connection.execute(
                    insert(properties).values(name="schema_version", value=str(SCHEMA_VERSION))
                )
            else:
                migrate(connection, known)

    def _require_letters(self, connection: Connection) -> None:
        if self.is_sqlite:
            return
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        if encoding != "UTF8":
            raise InputError(f"{self.engine.url.render_as_string()}: its encoding is {encoding}, not UTF8",
                             "make one that has it: createdb --template template0 --encoding UTF8 NAME")  # fmt: skip


def _engine(url: str) -> Engine:
    if "://" not in url:
        Path(url).parent.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{url}"
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)  # the driver that nomoat brings
    far = not url.startswith("sqlite")
    # Else texts would come as bytes from a database of another encoding, before it can be refused.
    options: dict[str, Any] = {"connect_args": {"client_encoding": "utf8"}} if far else {}
    engine = create_engine(url, pool_size=8, max_overflow=32, pool_pre_ping=far, json_serializer=_compact_json,
                           **options)  # fmt: skip
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _tune_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _compact_json(content: Any) -> str:
    # Letters as they are, not as \uXXXX: the search index reads them.
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _tune_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # this module says when a transaction begins
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that begins by reading could not become a writer once another one has written: writers say so.
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")


@contextlib.contextmanager
def _database_errors() -> Iterator[None]:
    """What the database's machine ran out of, as nomoat's errors."""
    try:
        yield
    except DBAPIError as error:
        known = _as_nomoat_error(error.orig)
        if known is None:
            raise
        raise known from error


def _as_nomoat_error(error: BaseException | None) -> NomoatError | None:
    state = getattr(error, "sqlstate", None)
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        code &= 0xFF  # the extended codes say where exactly
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR} or state in _FULL_SQLSTATES:
        return DiskFullError(
            f"the hub's database could not be written: {error}", "free some space; nothing was changed"
        )
    if state is not None and state.startswith(_BAD_DATA):
        return InputError(f"the hub's database cannot hold this: {error}", "send it without odd characters")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} or state in _BUSY_SQLSTATES:
        return _overloaded()
    return None


def _overloaded() -> OverloadedError:
    return OverloadedError("the hub's database is busy", "try again in some seconds")
