"""Backups: a folder with the database, the hub's keys and every blob, made while the hub works.

    hub.db  keys/  blobs/sha256/...  manifest.json

The manifest is written last: without it, or with one that does not fit, nothing is restored. A second backup into
the same folder copies only what is new.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.base.errors import InputError, NomoatError, NotFoundError
from nomoat.base.files import atomic_path, atomic_write_json, disk_errors
from nomoat.base.progress import Progress
from nomoat.share.blobs.files import FileBlobs
from nomoat.share.blobs.store import BlobStore
from nomoat.share.names import check_digest
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.holders import reachable_digests
from nomoat.share.registry.registry import Registry

__all__ = ["BackupReport", "back_up", "restore"]

_VERSION = 1
_MANIFEST, _DATABASE, _KEYS = "manifest.json", "hub.db", "keys"
_COPY_BYTES = 4 << 20


@dataclass(frozen=True)
class BackupReport:
    """How many blobs there are, and how many had to be copied."""

    blobs: int
    bytes: int
    copied_blobs: int
    copied_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return dict(vars(self))


def back_up(registry: Registry, target: Path, progress: Progress) -> BackupReport:
    """Copy the hub into `target`. Every byte is verified on its way. Raises `NomoatError` for PostgreSQL."""
    if not registry.database.is_sqlite:
        raise NomoatError(
            "this hub's database is PostgreSQL", "back it up with pg_dump, and its blobs as files"
        )
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        target.chmod(0o700)  # it holds the hub's key and everybody's private files
        (target / _MANIFEST).unlink(missing_ok=True)
        with atomic_path(target / _DATABASE) as temporary:
            _copy_database(registry.config.root / _DATABASE, temporary)
        _copy_keys(registry.config.root, target)
        sizes = _blobs_of(target / _DATABASE)
        report = _copy_blobs(registry.store, FileBlobs(target / "blobs"), sizes, progress)
        content = {"version": _VERSION, "created_ms": now_ms(), "blobs": sizes,
                   "files": {name: _sha256(target / name) for name in _small_files(target)}}  # fmt: skip
        atomic_write_json(target / _MANIFEST, content)
    return report


def restore(source: Path, root: Path, progress: Progress) -> BackupReport:
    """Make the hub of a backup in `root`, which must be empty or not there. Every byte is verified on its way."""
    manifest = _manifest(source)
    if root.exists() and any(root.iterdir()):
        raise InputError(f"{root}: there is something already", "restore into an empty folder, or a new one")
    unfinished = root.with_name(f".{root.name}.restoring")
    shutil.rmtree(unfinished, ignore_errors=True)
    with disk_errors(root), _removed_on_error(unfinished):
        unfinished.mkdir(parents=True, mode=0o700)
        for name, digest in manifest["files"].items():
            if name not in _small_files(source) or _sha256(source / name) != digest:
                raise NomoatError(f"{source / name}: differs from what was backed up", "take another backup")
        report = _copy_blobs(
            FileBlobs(source / "blobs"), FileBlobs(unfinished / "blobs"), manifest["blobs"], progress
        )
        _copy_keys(source, unfinished)
        with atomic_path(unfinished / _DATABASE) as temporary:
            shutil.copyfile(source / _DATABASE, temporary)
        unfinished.replace(root)
    return report


def _copy_database(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as hub,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        hub.backup(copy, pages=4096, sleep=0.01)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, no WAL beside it


def _copy_keys(source: Path, target: Path) -> None:
    keys = target / _KEYS
    keys.mkdir(mode=0o700, exist_ok=True)
    for path in sorted((source / _KEYS).glob("*")):
        if path.is_file() and not path.is_symlink():
            with atomic_path(keys / path.name) as temporary:
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(path.read_bytes())


def _blobs_of(database: Path) -> dict[str, int]:
    """Size of each blob that a commit in the copied database holds: others are garbage, or not committed yet."""
    copy = Database(str(database))
    try:
        with copy.read() as connection:
            needed = reachable_digests(connection)
            rows = connection.exec_driver_sql("SELECT digest, size_bytes FROM blobs")
            sizes = {row.digest: row.size_bytes for row in rows if row.digest in needed}
    finally:
        copy.close()
    with contextlib.closing(sqlite3.connect(database)) as connection_:
        connection_.execute("PRAGMA journal_mode=DELETE")
    if missing := needed - set(sizes):
        raise NotFoundError(f"{min(missing)} is in a commit, but not recorded", "run `nomoat hub check`")
    return sizes


def _copy_blobs(
    source: BlobStore, target: BlobStore, sizes: dict[str, int], progress: Progress
) -> BackupReport:
    copied_blobs = copied_bytes = 0
    progress.start("copying blobs", sum(sizes.values()), "bytes")
    for digest, size in sorted(sizes.items()):
        known = target.info(check_digest(digest))
        if known is None or known.size_bytes != size:
            _copy_blob(source, target, digest, size)
            copied_blobs, copied_bytes = copied_blobs + 1, copied_bytes + size
        progress.advance(size)
    progress.finish()
    return BackupReport(len(sizes), sum(sizes.values()), copied_blobs, copied_bytes)


def _copy_blob(source: BlobStore, target: BlobStore, digest: str, size: int) -> None:
    with source.open(digest) as reader, target.incoming() as incoming:
        while block := reader.read(_COPY_BYTES):
            incoming.write(block)
        incoming.finish(digest, size)


def _small_files(folder: Path) -> list[str]:
    return [
        _DATABASE,
        *(f"{_KEYS}/{path.name}" for path in sorted((folder / _KEYS).glob("*")) if path.is_file()),
    ]


def _manifest(source: Path) -> dict[str, Any]:
    try:
        content = json.loads((source / _MANIFEST).read_bytes())
        if content["version"] != _VERSION or _DATABASE not in content["files"]:
            raise ValueError("another version")
        for digest in content["blobs"]:
            check_digest(digest)
    except FileNotFoundError as error:
        raise NotFoundError(f"{source}: there is no whole backup", "`nomoat hub backup` makes one") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{source / _MANIFEST}: not a backup's manifest", "take another backup") from error
    manifest: dict[str, Any] = content
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
