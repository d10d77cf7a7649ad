"""The database: SQLite beside the blobs, or PostgreSQL. Short transactions, in SQLite one writer at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.dml import Insert

from nomoat.base.errors import InputError, NomoatError
from nomoat.share.registry.schema import SCHEMA_VERSION, metadata, properties

__all__ = ["Database", "now_ms"]

_BUSY_MS = 30_000
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}", "cache_size=-16000",
            "temp_store=MEMORY", "mmap_size=0")  # fmt: skip


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Database:
    """Connections and transactions. Use `read` or `write`; everything inside `write` happens, or nothing does."""

    def __init__(self, url: str) -> None:
        """Open, and make the tables where there are none. `url` as SQLAlchemy has it; a path is a SQLite file.

        Raises `InputError` where it cannot be reached or was made by another version.
        """
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        try:
            self._prepare()
        except SQLAlchemyError as error:
            raise InputError(f"{make_url(self.engine.url).render_as_string()}: {error}",
                             "check that the database runs and that its user may create tables") from error  # fmt: skip

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection whose statements see one state of the database."""
        with self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block and rolled back where it raises."""
        with self.engine.connect() as connection:
            if self.is_sqlite:
                # A transaction that begins by reading could not become a writer once another one has written.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            with connection.begin_nested() if connection.in_transaction() else connection.begin():
                yield connection
            connection.commit()

    def insert_missing(self, table: Any) -> Insert:
        """An INSERT for `table` that leaves rows as they are whose key is there already."""
        dialect = sqlite if self.is_sqlite else postgresql
        statement: Insert = dialect.insert(table).on_conflict_do_nothing()
        return statement

    def property(self, name: str) -> str | None:
        """A property of the whole registry."""
        with self.read() as connection:
            return connection.scalar(select(properties.c.value).where(properties.c.name == name))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _prepare(self) -> None:
        metadata.create_all(self.engine)
        with self.write() as connection:
            known = connection.scalar(select(properties.c.value).where(properties.c.name == "schema_version"))
            if known is None:
                connection.execute(
                    insert(properties).values(name="schema_version", value=str(SCHEMA_VERSION))
                )
            elif known != str(SCHEMA_VERSION):
                raise NomoatError(f"the hub's database has version {known}, this nomoat needs {SCHEMA_VERSION}",
                                  "use the version of nomoat that made it, or restore into a new hub")  # fmt: skip


def _engine(url: str) -> Engine:
    if "://" not in url:
        Path(url).parent.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{url}"
    engine = create_engine(url, pool_size=8, max_overflow=32, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _tune_sqlite)
        event.listen(engine, "begin", _begin_nothing)
    return engine


def _tune_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy and this module say when a transaction begins
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_nothing(connection: Connection) -> None:
    """Reading needs no transaction of its own: WAL gives each statement a state of the database."""
