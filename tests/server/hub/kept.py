"""All that a hub keeps, so that tests can say that nothing of what was refused is in it."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from pathlib import Path

__all__ = ["kept_by"]

_OF_THE_DATABASE = (".db", ".db-wal", ".db-shm")
_TIMES_OF_USE = {"used_ms"}


def kept_by(root: Path) -> dict[str, str]:
    """Each file below a hub's folder by its size, and each row of its database by its digest.

    Left out: the database's own files, and when a token was last used.
    """
    files = {
        str(path.relative_to(root)): str(path.stat().st_size) for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(_OF_THE_DATABASE)
    }  # fmt: skip
    [database] = root.glob("*.db")
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for row in connection.execute(f'select * from "{table}"'):
                values = {key: row[key] for key in row.keys() if key not in _TIMES_OF_USE}
                files[f"{table} {hashlib.sha256(repr(values).encode()).hexdigest()}"] = table
    return files
