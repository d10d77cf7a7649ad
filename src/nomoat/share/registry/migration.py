"""Databases of earlier versions, brought to the present schema when they are opened."""

from __future__ import annotations

from sqlalchemy import Connection, update

from nomoat.base.errors import NomoatError
from nomoat.share.registry.schema import (
    SCHEMA_VERSION,
    metadata,
    properties,
    xet_chunks,
    xet_segments,
    xet_xorbs,
)

__all__ = ["migrate"]

_CHUNK_INDEX = [xet_chunks, xet_segments, xet_xorbs]


def migrate(connection: Connection, known: str) -> None:
    """Make a database of version `known` one of `SCHEMA_VERSION`; its new tables are there already.

    Raises `NomoatError` for a version that this one knows nothing of. Nobody else may write meanwhile.
    """
    if known == str(SCHEMA_VERSION):
        return
    if known != "1" or connection.dialect.name != "sqlite":
        raise NomoatError(f"the hub's database has version {known}, this nomoat needs {SCHEMA_VERSION}",
                          "use the version of nomoat that made it, or restore into a new hub")  # fmt: skip
    # The xorbs of version 1 were blobs of their own. What was known of chunks is computed anew from whole files.
    metadata.drop_all(connection, _CHUNK_INDEX)
    metadata.create_all(connection, _CHUNK_INDEX)
    version = update(properties).where(properties.c.name == "schema_version")
    connection.execute(version.values(value=str(SCHEMA_VERSION)))
