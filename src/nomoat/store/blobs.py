"""Model files by digest: linked into the store where the file system can, else copied and compared."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from nomoat.base.errors import BadFileError
from nomoat.base.files import disk_errors, fsync_folder
from nomoat.base.progress import Progress

__all__ = ["Blobs", "Incoming", "copy_verified", "digest_of"]

_CHUNK_BYTES = 8 << 20
_FICLONE = 0x40049409  # ioctl of Linux: share the extents of another file
_STALE_SECONDS = 600.0


@dataclass(frozen=True)
class Incoming:
    """A file in the store's folder under a temporary name, with its digest."""

    temporary: Path
    digest: str


class Blobs:
    """`home/blobs/sha256/<hex>`, each file complete and named by its content."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "blobs" / "sha256"

    def path(self, digest: str) -> Path:
        """Where the content of `digest` is, or would be."""
        return self._folder / digest.removeprefix("sha256:")

    @contextlib.contextmanager
    def incoming(
        self, source: Path, progress: Progress, copy: bool = True, digest: str | None = None
    ) -> Iterator[Incoming | None]:
        """Bring `source` into the folder and digest it; nothing remains unless `keep` is called.

        Yields None where it could only be copied and `copy` is False. `digest` was computed just now by the caller:
        where no byte is copied, none is read again.
        """
        temporary = self._folder / f".{os.getpid()}-{secrets.token_hex(8)}.part"
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                if _link(source, temporary):
                    yield Incoming(temporary, digest or digest_of(temporary, progress, source.name))
                elif copy:
                    yield Incoming(temporary, copy_verified(source, temporary, progress, source.name))
                else:
                    yield None
            finally:
                temporary.unlink(missing_ok=True)

    def keep(self, incoming: Incoming, progress: Progress) -> Path:
        """Give the file its final name. Hold the store's lock. A sound file already there stays."""
        target = self.path(incoming.digest)
        if target.exists():
            same = target.samefile(incoming.temporary)
            if same or digest_of(target, progress, "the one in the store") == incoming.digest:
                return target
        incoming.temporary.replace(target)
        fsync_folder(self._folder)
        return target

    def sweep(self, wanted: set[Path]) -> None:
        """Delete blobs that no record names, and what interrupted imports left. Hold the store's lock."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if _is_dead(path) if path.name.endswith(".part") else path not in wanted:
                path.unlink(missing_ok=True)


def digest_of(path: Path, progress: Progress, label: str) -> str:
    """sha256 of a file in OCI notation, with progress in MB."""
    hasher = hashlib.sha256()
    progress.start(f"Checking {label}", path.stat().st_size / 1e6, "MB")
    with path.open("rb") as handle:
        for chunk in _chunks(handle):
            hasher.update(chunk)
            progress.advance(len(chunk) / 1e6)
    progress.finish()
    return f"sha256:{hasher.hexdigest()}"


def copy_verified(source: Path, target: Path, progress: Progress, label: str) -> str:
    """Copy `source` to `target`, flush it to the disk, read it back and return the digest both have."""
    hasher = hashlib.sha256()
    progress.start(f"Copying {label}", source.stat().st_size / 1e6, "MB")
    with source.open("rb") as reader, target.open("xb") as writer:
        for chunk in _chunks(reader):
            hasher.update(chunk)
            writer.write(chunk)
            progress.advance(len(chunk) / 1e6)
        writer.flush()
        os.fsync(writer.fileno())
    progress.finish()
    digest = f"sha256:{hasher.hexdigest()}"
    if digest_of(target, progress, "the copy") != digest:
        raise BadFileError(target, "", "differs from what was written to it",
                           "the disk or the memory is failing: check them, then try again")  # fmt: skip
    return digest


def _is_dead(path: Path) -> bool:
    """Whether the process that began this temporary file is gone, and not only just."""
    # ctime, not mtime: a hard link keeps the source's mtime.
    with contextlib.suppress(OSError, ValueError):
        old = time.time() - path.lstat().st_ctime > _STALE_SECONDS
        return old and not psutil.pid_exists(int(path.name[1:].partition("-")[0]))
    return False


def _chunks(handle: BinaryIO) -> Iterator[bytes]:
    while chunk := handle.read(_CHUNK_BYTES):
        yield chunk


def _link(source: Path, target: Path) -> bool:
    """Share the content of `source` without a copy, if the file system can."""
    try:
        with source.open("rb") as reader, target.open("xb") as writer:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        return True
    except OSError as error:
        target.unlink(missing_ok=True)
        if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EDQUOT):
            raise
    try:
        os.link(source.resolve(), target)
        return True
    except OSError:
        return False
