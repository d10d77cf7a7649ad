"""A database of an earlier version is brought up to date with all that is in it; a later one is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import inspect, text

from nomoat.base.errors import NomoatError
from nomoat.share.registry.registry import Registry

_VERSION_1 = (
    "DROP TABLE xet_sent",
    "DROP TABLE xet_xorbs",
    "CREATE TABLE xet_xorbs (hash VARCHAR(64) NOT NULL PRIMARY KEY, chunks BLOB NOT NULL, digest VARCHAR(71) NOT NULL,"
    " created_ms BIGINT NOT NULL)",
    "INSERT INTO xet_xorbs VALUES ('aa', X'00', 'sha256:aa', 1)",
    "UPDATE properties SET value = '1' WHERE name = 'schema_version'",
)


def _set_back(registry: Registry, *statements: str) -> Registry:
    with registry.database.write() as connection:
        for statement in statements:
            connection.execute(text(statement))
    registry.close()
    return Registry(registry.config)


def test_version_1_keeps_everything_but_its_index_of_chunks(hub: Any) -> None:
    repo = hub.repo("ada/notes")
    commit = hub.push(repo, {"a.bin": b"kept"})
    registry = _set_back(hub.registry, *_VERSION_1)
    entry = registry.history.entry(registry.history.resolve(repo, commit.oid), "a.bin")
    assert registry.store.open(entry.digest).read() == b"kept"
    assert registry.database.property("schema_version") == "2"
    columns = {column["name"] for column in inspect(registry.database.engine).get_columns("xet_xorbs")}
    assert columns == {"hash", "chunks", "created_ms"}
    registry.close()


def test_a_later_version_is_refused_untouched(hub: Any) -> None:
    with pytest.raises(NomoatError, match="has version 99"):
        _set_back(hub.registry, "UPDATE properties SET value = '99' WHERE name = 'schema_version'")
