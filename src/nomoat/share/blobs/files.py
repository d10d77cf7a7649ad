"""Blobs as files: `sha256/ab/cd/<hex>` and, beside each, the checksums of its blocks.

A file appears under its final name by a rename, after its bytes and its checksums are on the disk. So whatever is
there is whole, and an interrupted upload leaves no more than a file in `incoming/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import blake3

from nomoat.base.errors import NotFoundError
from nomoat.base.files import atomic_write, disk_errors, fsync_folder
from nomoat.share.blobs.store import BLOCK_BYTES, BlobInfo
from nomoat.share.errors import DamagedBlobError, RefusedError

__all__ = ["BlockSums", "FileBlobs"]

_SUMS, _MARK = ".sums", "hub-id"
_SUM_BYTES = 32
_BUFFER_BYTES = 64 << 10
_WRITE_BYTES = 1 << 20  # in one go much more takes several times as long
_STALE_SECONDS = 24 * 3600


class FileBlobs:
    """A `BlobStore` in a folder."""

    def __init__(self, root: Path) -> None:
        """Make the folder if need be."""
        self._root, self._incoming = root / "sha256", root / "incoming"
        with disk_errors(root):
            self._root.mkdir(parents=True, exist_ok=True)
            self._incoming.mkdir(exist_ok=True)

    @property
    def place(self) -> str:
        """Its folder."""
        return str(self._root.parent)

    def mark(self) -> str:
        """What `set_mark` left; empty where nothing did."""
        path = self._root.parent / _MARK
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""

    def set_mark(self, mark: str) -> None:
        """Say whose blobs these are."""
        atomic_write(self._root.parent / _MARK, mark.encode())

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        name = digest.removeprefix("sha256:")
        return self._root / name[:2] / name[2:4] / name

    def info(self, digest: str) -> BlobInfo | None:
        """The blob, or None where it is not there."""
        try:
            return _info(self.path(digest))
        except FileNotFoundError:
            return None

    def open(self, digest: str) -> BinaryIO:
        """A seekable reader that verifies each block that it touches, against checksums made at writing."""
        path = self.path(digest)
        try:
            # The buffer is for small reads only: of hundreds of readers each has one.
            return io.BufferedReader(_Verified(path, digest), _BUFFER_BYTES)
        except FileNotFoundError as error:
            raise NotFoundError(f"{digest}: no such blob") from error

    def sums(self, digest: str) -> bytes:
        """The checksums of its blocks, made when it was written."""
        path = self.path(digest)
        try:
            return path.with_name(path.name + _SUMS).read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"{digest}: no such blob") from error

    @contextlib.contextmanager
    def incoming(self) -> Iterator[_IncomingFile]:
        """Begin to write a blob."""
        temporary = self._incoming / f"{secrets.token_hex(12)}.part"
        with disk_errors(temporary), temporary.open("xb", buffering=0) as handle:
            try:
                yield _IncomingFile(self, handle, temporary)
            finally:
                temporary.unlink(missing_ok=True)

    def delete(self, digest: str) -> None:
        """Remove the blob if it is there, its checksums last."""
        path = self.path(digest)
        path.unlink(missing_ok=True)
        path.with_name(path.name + _SUMS).unlink(missing_ok=True)

    def all(self) -> Iterator[BlobInfo]:
        """Every blob, in no order."""
        for path in self._root.glob("??/??/*"):
            if not path.name.endswith((_SUMS, ".part")):
                with contextlib.suppress(FileNotFoundError):
                    yield _info(path)

    def check(self, digest: str) -> None:
        """Compute the sha256 of the whole file and its checksums again. Raises `DamagedBlobError`, `NotFoundError`."""
        if self._sums_of(digest) != self.sums(digest):
            raise _damaged(self.path(digest), "its checksums")

    def renew_sums(self, digest: str) -> None:
        """Make its checksums anew. Raises `DamagedBlobError` where the file itself differs, `NotFoundError`."""
        self._keep_sums(self.path(digest), self._sums_of(digest))

    def _sums_of(self, digest: str) -> bytes:
        """The checksums of its blocks as it lies there, where that is what its digest says."""
        hasher, sums = hashlib.sha256(), BlockSums()
        try:
            with self.path(digest).open("rb") as handle:
                while block := handle.read(4 * BLOCK_BYTES):
                    hasher.update(block)
                    sums.update(memoryview(block))
        except FileNotFoundError as error:
            raise NotFoundError(f"{digest}: no such blob") from error
        if digest != f"sha256:{hasher.hexdigest()}":
            raise _damaged(self.path(digest), "the whole file")
        return sums.finish()

    @contextlib.contextmanager
    def local(self, digest: str) -> Iterator[Path]:
        """The blob's own file, after `check`."""
        self.check(digest)
        yield self.path(digest)

    def url(self, digest: str, filename: str, seconds: int) -> str | None:
        """None: a folder has no addresses."""
        return None

    def sweep_incoming(self, older_than_seconds: float = _STALE_SECONDS) -> int:
        """Delete what interrupted uploads left; returns how many files."""
        count = 0
        for path in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > older_than_seconds:
                    path.unlink()
                    count += 1
        return count

    def adopt(self, path: Path, digest: str, sums: bytes) -> BlobInfo:
        """Keep a whole, flushed file whose digest and checksums are known: by a second name where that is possible."""
        temporary = self._incoming / f"{secrets.token_hex(12)}.part"
        with disk_errors(temporary):
            try:
                _link_or_copy(path, temporary)
                return self.keep(temporary, digest, sums)
            finally:
                temporary.unlink(missing_ok=True)

    def keep(self, temporary: Path, digest: str, sums: bytes) -> BlobInfo:
        """Give a whole, flushed file its final name. It takes the place of one that is there: that may be damaged."""
        path = self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._keep_sums(path, sums)
        state = temporary.stat()  # as soon as it has its name, garbage collection may take it away
        temporary.replace(path)
        # From the blob's folder up: each may be new.
        for folder in (path.parent, path.parent.parent, self._root):
            fsync_folder(folder)
        return BlobInfo(digest, state.st_size, state.st_mtime_ns // 1_000_000)

    def _keep_sums(self, path: Path, sums: bytes) -> None:
        temporary = self._incoming / f"{secrets.token_hex(12)}.part"
        try:
            with temporary.open("xb") as handle:
                handle.write(sums)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path.with_name(path.name + _SUMS))
        finally:
            temporary.unlink(missing_ok=True)


class _IncomingFile:
    """See `Incoming`."""

    def __init__(self, blobs: FileBlobs, handle: Any, path: Path) -> None:
        self._blobs, self._handle, self._path = blobs, handle, path
        self._hasher = hashlib.sha256()
        self._sums = BlockSums()
        self.size_bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self.size_bytes += len(view)
        self._hasher.update(view)
        self._sums.update(view)
        while view:
            view = view[self._handle.write(view[:_WRITE_BYTES]) :]

    def finish(self, digest: str | None = None, size_bytes: int | None = None) -> BlobInfo:
        found = f"sha256:{self._hasher.hexdigest()}"
        if size_bytes is not None and size_bytes != self.size_bytes:
            raise RefusedError(
                f"{self.size_bytes:,} bytes arrived where {size_bytes:,} were announced", "send it again"
            )
        if digest is not None and digest != found:
            raise RefusedError(f"the bytes are {found}, but {digest} was announced", "send it again")
        os.fsync(self._handle.fileno())
        return self._blobs.keep(self._path, found, self._sums.finish())


class BlockSums:
    """BLAKE3 of each block: five times faster than sha256, and read back as quickly."""

    def __init__(self) -> None:
        self._sums: list[bytes] = []
        self._current = blake3.blake3()
        self._room = BLOCK_BYTES

    def update(self, view: memoryview) -> None:
        """Take the bytes that follow."""
        while view:
            part, view = view[: self._room], view[self._room :]
            self._current.update(part)
            self._room -= len(part)
            if not self._room:
                self._close()

    def finish(self) -> bytes:
        """The checksums of all blocks."""
        if self._room < BLOCK_BYTES:
            self._close()
        return b"".join(self._sums)

    def _close(self) -> None:
        self._sums.append(self._current.digest())
        self._current, self._room = blake3.blake3(), BLOCK_BYTES


class _Verified(io.RawIOBase):
    """Reads block by block and compares each with its checksum."""

    def __init__(self, path: Path, digest: str) -> None:
        self._path, self._digest = path, digest
        self._handle = path.open("rb", buffering=0)
        try:
            self._sums = path.with_name(path.name + _SUMS).read_bytes()
        except FileNotFoundError:
            self._sums = b""
        self._size = os.fstat(self._handle.fileno()).st_size
        if len(self._sums) != -(-self._size // BLOCK_BYTES) * _SUM_BYTES:
            self._handle.close()
            raise _damaged(path, "its length, or its checksums'")
        self._position = 0
        self._block: tuple[int, memoryview] = (-1, memoryview(b""))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        index, within = divmod(self._position, BLOCK_BYTES)
        block = self._verified(index)
        part = block[within : within + len(target)]
        target[: len(part)] = part
        self._position += len(part)
        if within + len(part) == len(block):
            self._block = (
                -1,
                memoryview(b""),
            )  # read to its end: of many readers each keeps no block for nothing
        return len(part)

    def close(self) -> None:
        self._handle.close()
        super().close()

    def _verified(self, index: int) -> memoryview:
        if self._block[0] == index:
            return self._block[1]
        start = index * BLOCK_BYTES
        if start >= self._size:
            return memoryview(b"")
        data = os.pread(self._handle.fileno(), BLOCK_BYTES, start)
        wanted = self._sums[index * _SUM_BYTES : (index + 1) * _SUM_BYTES]
        if blake3.blake3(data).digest() != wanted:
            raise _damaged(self._path, f"bytes {start:,} to {start + len(data):,}")
        self._block = index, memoryview(data)
        return self._block[1]


def _link_or_copy(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system has links
        os.link(source, target)
        return
    shutil.copyfile(source, target)
    with target.open("rb") as handle:
        os.fsync(handle.fileno())


def _info(path: Path) -> BlobInfo:
    state = path.stat()
    return BlobInfo(f"sha256:{path.name}", state.st_size, state.st_mtime_ns // 1_000_000)


def _damaged(path: Path, place: str) -> DamagedBlobError:
    return DamagedBlobError(
        f"{path}: {place}: differs from what was stored",
        "the disk may be failing; `nomoat hub check` lists what is damaged, a backup or another hub has it whole",
    )
