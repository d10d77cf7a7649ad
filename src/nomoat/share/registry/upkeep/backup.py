"""Backup and restore of a registry in a folder: database, blobs, keys. A backup can be taken while the hub runs.

target/blobs/sha256/ab/cd/<hex>   each blob once; a later backup into the same folder adds what is new
target/hub.db, target/keys/       as they were
target/backup.json                last of all: without it there is no backup
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from nomoat.base.digests import sha256_file
from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.base.files import atomic_path, atomic_write_json, private_folder
from nomoat.base.progress import Progress, Silent
from nomoat.share.blobs.files import FileBlobs
from nomoat.share.names import is_digest
from nomoat.share.registry.places import MARK
from nomoat.share.registry.registry import Registry

__all__ = ["MANIFEST", "Backup", "back_up", "restore"]

MANIFEST = "backup.json"
_KIND, _COPY_BYTES = "nomoat hub backup", 1 << 20


@dataclass(frozen=True)
class Backup:
    """What a backup holds. `copied_bytes` is what this one added to the folder."""

    kind: str
    created: str
    database: str
    blobs: int
    bytes: int
    copied_bytes: int


def back_up(registry: Registry, target: Path, progress: Progress | None = None) -> Backup:
    """Write a backup into `target`, or bring the one that is there up to date.

    Every blob is verified as it is read. Raises `DamagedBlobError`, `InputError` for a registry on PostgreSQL or S3.
    """
    if not registry.database.is_sqlite or not isinstance(registry.store, FileBlobs):
        raise InputError(
            f"{registry.config.root}: this hub is in PostgreSQL or a bucket, not in its folder",
            "run pg_dump, then copy the bucket and keys/: docs/how-to/run-a-hub.md shows how",
        )
    progress = progress or Silent()
    private_folder(target)
    (target / MANIFEST).unlink(missing_ok=True)  # while it is written, it is no backup
    with atomic_path(target / "hub.db") as temporary:
        _copy_database(registry.config.root / "hub.db", temporary)
    wanted = _digests(target / "hub.db")
    place, copied = FileBlobs(target / "blobs"), 0
    progress.start("Copying", sum(wanted.values()) / 1e6, "MB")
    for digest, size in wanted.items():
        known = place.info(digest)
        if known is None or known.size_bytes != size:
            _copy_blob(registry.store, place, digest, size)
            copied += size
        progress.advance(size / 1e6)
    progress.finish()
    _copy_keys(registry.config.root, target)
    found = Backup(_KIND, datetime.now(UTC).isoformat(timespec="seconds"), sha256_file(target / "hub.db"), len(wanted),
                   sum(wanted.values()), copied)  # fmt: skip
    atomic_write_json(target / MANIFEST, asdict(found))
    return found


def restore(source: Path, root: Path, progress: Progress | None = None) -> Backup:
    """Make a registry in the empty folder `root` from a backup, verifying all of it.

    Raises `NotFoundError`, `BadFileError`, and `InputError` where `root` holds something. The database comes last: an
    interrupted restore leaves no registry.
    """
    progress, found = progress or Silent(), _read_manifest(source)
    if root.exists() and any(path.name != "blobs" for path in root.iterdir()):
        raise InputError(f"{root}: is not empty", "restore into a new folder")
    if sha256_file(source / "hub.db") != found.database:
        raise BadFileError(source / "hub.db", "", "differs from the backup's record", "take another backup")
    private_folder(root)
    stored, place = FileBlobs(source / "blobs"), FileBlobs(root / "blobs")
    wanted = _digests(source / "hub.db")
    progress.start("Restoring", sum(wanted.values()) / 1e6, "MB")
    for digest, size in wanted.items():
        if place.info(digest) is None:
            _copy_blob(stored, place, digest, size)
        progress.advance(size / 1e6)
    progress.finish()
    if mark := _mark(source / "hub.db"):
        place.set_mark(mark)
    _copy_keys(source, root)
    with atomic_path(root / "hub.db") as temporary:
        shutil.copyfile(source / "hub.db", temporary)
    return found


def _read_manifest(source: Path) -> Backup:
    try:
        content = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
        found = Backup(**content)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{source}: holds no finished backup", "take one: nomoat hub backup FOLDER"
        ) from error
    except (ValueError, TypeError) as error:
        raise BadFileError(source / MANIFEST, "", f"is no record of a backup ({error})") from error
    if found.kind != _KIND:
        raise BadFileError(source / MANIFEST, "kind", f"is {found.kind!r}", "name a backup of a hub")
    return found


def _copy_database(source: Path, target: Path) -> None:
    """A copy of one moment, while others write."""
    with (
        contextlib.closing(sqlite3.connect(source)) as reading,
        contextlib.closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing)


def _digests(database: Path) -> dict[str, int]:
    """Blobs that some repository holds, with their sizes."""
    query = "select distinct digest, size_bytes from blobs join repo_blobs using (digest) order by digest"
    with contextlib.closing(
        sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    ) as connection:
        return {digest: size for digest, size in connection.execute(query) if is_digest(digest)}


def _mark(database: Path) -> str:
    """The hub's mark, which its folder of blobs bears, too; empty in a backup that is older than marks."""
    with contextlib.closing(
        sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    ) as connection:
        row = connection.execute("select value from properties where name = ?", (MARK,)).fetchone()
    return str(row[0]) if row else ""


def _copy_blob(source: FileBlobs, target: FileBlobs, digest: str, size: int) -> None:
    with source.open(digest) as reader, target.incoming() as incoming:
        for part in _parts(reader):
            incoming.write(part)
        incoming.finish(digest, size)


def _parts(reader: object) -> Iterator[bytes]:
    while part := reader.read(_COPY_BYTES):  # type: ignore[attr-defined]
        yield part


def _copy_keys(source: Path, target: Path) -> None:
    """The hub's own keys, readable by nobody else."""
    for path in sorted((source / "keys").glob("*")):
        if path.is_file():
            with atomic_path(target / "keys" / path.name) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_bytes(path.read_bytes())
    if (target / "keys").is_dir():
        (target / "keys").chmod(0o700)
