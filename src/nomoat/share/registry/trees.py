"""Folders of a repository as git's trees: read, looked up by path, and written anew with changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from nomoat.share.registry.database import Database
from nomoat.share.registry.git_objects import EMPTY_TREE, GitEntry, tree_oid
from nomoat.share.registry.schema import tree_entries

__all__ = ["Entry", "Trees"]

_AT_ONCE = 500  # trees asked for in one statement


@dataclass(frozen=True)
class Entry:
    """A file or folder. `oid` is git's id (a large file's is its LFS pointer's); `digest` is None for a folder."""

    path: str
    kind: str
    oid: str
    size_bytes: int = 0
    digest: str | None = None
    lfs: bool = False

    @property
    def is_file(self) -> bool:
        """Whether it is a file."""
        return self.kind == "blob"


@dataclass
class _Folder:
    """A tree under construction."""

    files: dict[str, Entry] = field(default_factory=dict)
    folders: dict[str, _Folder] = field(default_factory=dict)


class Trees:
    """Reads and writes trees inside the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def walk(self, connection: Connection, tree: str, folder: str = "") -> Iterator[Entry]:
        """Everything below a tree, folders before what they hold, by name. `folder` is the tree's own path."""
        level = {tree: [folder]} if tree != EMPTY_TREE else {}
        found: list[Entry] = []
        while level:
            below: dict[str, list[str]] = {}
            for row in _rows(connection, level):
                for prefix in level[row.tree]:
                    entry = _entry(row, prefix)
                    found.append(entry)
                    if not entry.is_file:
                        below.setdefault(entry.oid, []).append(entry.path)
            level = below
        yield from sorted(found, key=lambda entry: entry.path.split("/"))

    def children(self, connection: Connection, tree: str, folder: str = "") -> list[Entry]:
        """What one tree holds directly, by name."""
        rows = _rows(connection, {tree: [folder]})
        return sorted((_entry(row, folder) for row in rows), key=lambda entry: entry.path)

    def find(self, connection: Connection, tree: str, path: str) -> Entry | None:
        """The file or folder at `path`, or None."""
        entry: Entry | None = None
        prefix = ""
        for name in path.split("/"):
            if entry is not None and entry.is_file:
                return None
            at = tree if entry is None else entry.oid
            row = connection.execute(
                select(tree_entries).where(tree_entries.c.tree == at, tree_entries.c.name == name)
            ).first()
            if row is None:
                return None
            entry = _entry(row, prefix)
            prefix = entry.path
        return entry

    def write(self, connection: Connection, files: Mapping[str, Entry]) -> str:
        """Store the trees of these files by path; returns the root's id."""
        root = _Folder()
        for path, entry in files.items():
            *parents, name = path.split("/")
            folder = root
            for parent in parents:
                folder = folder.folders.setdefault(parent, _Folder())
            folder.files[name] = entry
        return self._store(connection, root)

    def _store(self, connection: Connection, folder: _Folder) -> str:
        entries = [
            (name, "tree", self._store(connection, below), None) for name, below in folder.folders.items()
        ]
        files = [(name, "blob", entry.oid, entry) for name, entry in folder.files.items()]
        both: list[tuple[str, str, str, Entry | None]] = [*entries, *files]
        oid = tree_oid(GitEntry(name, kind, own) for name, kind, own, _ in both)
        rows = [_row(oid, *each) for each in both]
        if rows:
            connection.execute(self._database.insert_missing(tree_entries), rows)
        return oid


def _rows(connection: Connection, trees: Iterable[str]) -> Iterator[Any]:
    wanted = list(trees)
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        yield from connection.execute(select(tree_entries).where(tree_entries.c.tree.in_(part)))


def _entry(row: Any, prefix: str) -> Entry:
    path = f"{prefix}/{row.name}" if prefix else row.name
    return Entry(path, row.kind, row.oid, row.size_bytes, row.digest, row.lfs)


def _row(tree: str, name: str, kind: str, oid: str, entry: Entry | None) -> dict[str, Any]:
    size, digest, lfs = (entry.size_bytes, entry.digest, entry.lfs) if entry else (0, None, False)
    return {
        "tree": tree,
        "name": name,
        "kind": kind,
        "oid": oid,
        "size_bytes": size,
        "digest": digest,
        "lfs": lfs,
    }
