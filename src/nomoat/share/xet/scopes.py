"""Addresses to send to that end when what clients remember of them may be wrong.

A client of Xet remembers for weeks, by the address that it sent to, which xorbs arrived there, and does not send them
again. A hub clears away what nothing holds any more. So each person sends to an address of his own, with a name that
changes then; what is known of a file is found by asking for its chunks.
"""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, delete, select

from nomoat.share.registry.database import Database
from nomoat.share.registry.schema import properties

__all__ = ["end_all_scopes", "end_scope", "scope_of"]

_PREFIX = "xet_scope/"


def scope_of(database: Database, user_id: int) -> str:
    """The name that this person's address has now: 16 hex digits that no hub and nobody else ever had."""
    name = f"{_PREFIX}{user_id}"
    known = database.property(name)
    if known is not None:
        return known
    with database.write() as connection:
        row = {"name": name, "value": secrets.token_hex(8)}
        connection.execute(database.insert_missing(properties).values(row))
        return str(connection.scalar(select(properties.c.value).where(properties.c.name == name)))


def end_scope(connection: Connection, user_id: int) -> None:
    """Let this person's address have another name from now on."""
    connection.execute(delete(properties).where(properties.c.name == f"{_PREFIX}{user_id}"))


def end_all_scopes(connection: Connection) -> None:
    """Let everybody's address have another name: something that was sent is gone."""
    connection.execute(delete(properties).where(properties.c.name.startswith(_PREFIX, autoescape=True)))
