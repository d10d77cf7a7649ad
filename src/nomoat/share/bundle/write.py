"""Writes things into a bundle, compares what arrived on the medium, and names them in the index last.

An interrupted call goes on where it stopped: what is on the medium is compared with the source. Works on FAT32 and
exFAT: no links, no special letters in names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from nomoat.base.digests import sha256_bytes, sha256_file
from nomoat.base.errors import BadFileError, DiskFullError, InputError
from nomoat.base.files import atomic_write, disk_errors, fsync_folder, lock_folder
from nomoat.base.progress import Progress
from nomoat.share.bundle.layout import INDEX_NAME, LAYOUT_NAME, REF_NAME, Packed, index_json, pack
from nomoat.share.bundle.read import read_index
from nomoat.share.things import LocalThing, ThingFile

__all__ = ["write_bundle"]

_CHUNK_BYTES = 8 << 20
_LARGEST_ON_FAT = (4 << 30) - 1
_FAT = {"vfat", "msdos", "fat32"}


def write_bundle(things: Sequence[LocalThing], target: Path, progress: Progress) -> list[dict[str, Any]]:
    """Add `things` to the bundle in the folder `target`, which is made if need be; returns their index entries.

    A thing of the same name is replaced. Raises `InputError` where `target` holds something else or cannot hold a
    file of that size, `DiskFullError` before anything is written where the room does not suffice, `BadFileError`
    where a source or the medium is damaged.
    """
    names = [local.thing.name for local in things]
    if len(set(names)) < len(names):
        raise InputError("two things of one name do not fit in one bundle", "make two bundles")
    packed = [pack(local.thing) for local in things]
    with disk_errors(target):
        _open(target)
        with lock_folder(target) as held:
            if not held:
                raise InputError(f"{target}: another process writes it", "wait until it is done")
            blobs = target / "blobs" / "sha256"
            blobs.mkdir(parents=True, exist_ok=True)
            _check_room(things, blobs)
            for local, documents in zip(things, packed, strict=True):
                _write_thing(local, documents, blobs, progress)
            atomic_write(target / LAYOUT_NAME, b'{"imageLayoutVersion": "1.0.0"}\n')
            others = [entry for entry in read_index(target) if _name(entry) not in names]
            atomic_write(target / INDEX_NAME, index_json([*others, *(one.entry for one in packed)]))
    return [one.entry for one in packed]


def _open(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputError(f"{target}: is no folder", "name a folder, or one that does not exist yet")
    if target.is_dir() and any(target.iterdir()):
        if not (target / LAYOUT_NAME).is_file() and not _is_begun(target):
            raise InputError(
                f"{target}: holds something else", f"name a new folder in it: {target / 'nomoat'}"
            )
    target.mkdir(parents=True, exist_ok=True)


def _is_begun(target: Path) -> bool:
    """Whether an interrupted call left nothing but blobs there."""
    return {path.name for path in target.iterdir()} == {"blobs"}


def _check_room(things: Sequence[LocalThing], blobs: Path) -> None:
    wanted = {file.digest: file.size_bytes for local in things for file in local.thing.files}
    largest = max(wanted.values(), default=0)
    if largest > _LARGEST_ON_FAT and _file_system(blobs) in _FAT:
        raise InputError(
            f"{blobs}: a file of {largest / 1e9:.1f} GB does not fit on FAT32, which ends at 4.3 GB",
            "format the stick as exFAT (its content is lost), or take a smaller quantisation",
        )
    missing = sum(size - _size_there(blobs, digest) for digest, size in wanted.items())
    free = shutil.disk_usage(blobs).free
    if missing > free:
        raise DiskFullError(f"{blobs}: {missing / 1e6:,.0f} MB are to be written, {free / 1e6:,.0f} MB are free",
                            "free some space there, or name fewer things")  # fmt: skip


def _size_there(blobs: Path, digest: str) -> int:
    paths = (blobs / _hex(digest), blobs / f"{_hex(digest)}.part")
    return max((path.stat().st_size for path in paths if path.is_file()), default=0)


def _file_system(folder: Path) -> str:
    """The type of the file system that holds `folder`, such as `vfat`; empty where it is not known."""
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    resolved = folder.resolve()
    return next((mounts[path] for path in (resolved, *resolved.parents) if path in mounts), "").lower()


def _write_thing(local: LocalThing, documents: Packed, blobs: Path, progress: Progress) -> None:
    for file in local.thing.files:
        _write_file(local.sources[file.digest], file, blobs, progress)
    for content in (documents.config, documents.manifest):
        path = blobs / _hex(sha256_bytes(content))
        if not path.is_file() or path.read_bytes() != content:
            atomic_write(path, content)


def _write_file(source: Path, file: ThingFile, blobs: Path, progress: Progress) -> None:
    digest = file.digest
    final, part = blobs / _hex(digest), blobs / f"{_hex(digest)}.part"
    size_bytes = source.stat().st_size
    if final.is_file() and final.stat().st_size == size_bytes and _digest_on_medium(final) == digest:
        return
    progress.start(f"Writing {file.path}", size_bytes / 1e6, "MB")
    with source.open("rb") as reader, part.open("r+b" if part.is_file() else "x+b") as writer:
        _skip_what_is_there(reader, writer, progress)
        while chunk := reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            progress.advance(len(chunk) / 1e6)
        writer.truncate()
        writer.flush()
        os.fsync(writer.fileno())
    progress.finish()
    if _digest_on_medium(part) != digest:
        part.unlink()
        if sha256_file(source) != digest:
            raise BadFileError(source, "", f"is not {digest} any more", "import it again")
        raise BadFileError(part, "", "differs from what was written to it",
                           "the medium is failing: use another one")  # fmt: skip
    part.replace(final)
    fsync_folder(blobs)


def _skip_what_is_there(reader: BinaryIO, writer: BinaryIO, progress: Progress) -> None:
    """Leave both at the first chunk that differs: an interrupted call wrote what is before it."""
    while chunk := reader.read(_CHUNK_BYTES):
        if writer.read(len(chunk)) != chunk:
            reader.seek(-len(chunk), os.SEEK_CUR)
            writer.seek(reader.tell())
            return
        progress.advance(len(chunk) / 1e6)


def _digest_on_medium(path: Path) -> str:
    """The digest of what the medium holds, not of what the system remembers to have written."""
    with path.open("rb") as handle:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return sha256_file(path)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _name(entry: dict[str, Any]) -> str:
    notes = entry.get("annotations")
    return str(json.dumps(notes)) if not isinstance(notes, dict) else str(notes.get(REF_NAME, ""))
