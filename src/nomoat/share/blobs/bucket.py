"""Blobs as objects in an S3 bucket: `<prefix>/sha256/ab/cd/<hex>`, and beside each the checksums of its blocks.

An upload is written to this machine's disk first: its object's name is its digest, which is known at its end. So
nothing reaches the bucket that was not verified, and an object is either there as a whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import blake3
import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from nomoat.base.errors import InputError, NomoatError, NotFoundError
from nomoat.base.files import disk_errors
from nomoat.base.settings import BucketSettings
from nomoat.share.blobs.files import BlockSums
from nomoat.share.blobs.signed_url import signed_get
from nomoat.share.blobs.store import BLOCK_BYTES, BlobInfo, attachment
from nomoat.share.errors import DamagedBlobError, RefusedError

__all__ = ["BucketBlobs"]

_SUMS, _MARK = ".sums", "hub-id"
_SUM_BYTES = 32
_PART_BYTES = 16 << 20
_MOST_BLOCKS = 8  # read ahead by one request
_STALE_SECONDS = 24 * 3600


class BucketBlobs:
    """A `BlobStore` in a bucket. `folder` is where uploads wait on this machine."""

    def __init__(self, url: str, folder: Path, settings: BucketSettings) -> None:
        """`url` is `s3://bucket/prefix`. Raises `InputError` where the bucket cannot be reached."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise InputError(f"{url}: not the address of a bucket", "give s3://bucket or s3://bucket/prefix")
        # Values that are None are left to the library's own sources, such as the machine's role.
        options = {name: value for name, value in vars(settings).items() if value}
        if settings.endpoint and settings.endpoint.startswith("http://"):
            options["client_options"] = {"allow_http": True}
        self._store = S3Store(parts.netloc, prefix=parts.path.strip("/") or None, **options)
        self.place, self._settings, self._incoming = url, settings, folder
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _bucket_errors(url):
            next(iter(obstore.list(self._store, "sha256/", chunk_size=1)), None)

    def mark(self) -> str:
        """What `set_mark` left; empty where nothing did."""
        try:
            with _bucket_errors(self.place):
                return bytes(obstore.get(self._store, _MARK).bytes()).decode("utf-8", "replace").strip()
        except NotFoundError:
            return ""

    def set_mark(self, mark: str) -> None:
        """Say whose blobs these are."""
        with _bucket_errors(self.place):
            obstore.put(self._store, _MARK, mark.encode())

    def info(self, digest: str) -> BlobInfo | None:
        """The blob, or None where it is not there."""
        try:
            with _bucket_errors(digest):
                return _info(obstore.head(self._store, _key(digest)))
        except NotFoundError:
            return None

    def open(self, digest: str) -> BinaryIO:
        """A seekable reader that verifies each block that it touches, against checksums made at writing."""
        info = self.info(digest)
        if info is None:
            raise NotFoundError(f"{digest}: no such blob")
        return io.BufferedReader(_Verified(self._store, info, self.sums(digest)), BLOCK_BYTES)

    def sums(self, digest: str) -> bytes:
        """The checksums of its blocks, made when it was written."""
        with _bucket_errors(digest):
            return bytes(obstore.get(self._store, _key(digest) + _SUMS).bytes())

    @contextlib.contextmanager
    def incoming(self) -> Iterator[_IncomingObject]:
        """Begin to write a blob."""
        temporary = self._incoming / f"{secrets.token_hex(12)}.part"
        with disk_errors(temporary), temporary.open("xb", buffering=0) as handle:
            try:
                yield _IncomingObject(self, handle, temporary)
            finally:
                temporary.unlink(missing_ok=True)

    def delete(self, digest: str) -> None:
        """Remove the blob if it is there, its checksums last."""
        for key in (_key(digest), _key(digest) + _SUMS):
            with contextlib.suppress(NotFoundError), _bucket_errors(digest):
                obstore.delete(self._store, key)

    def all(self) -> Iterator[BlobInfo]:
        """Every blob, in no order."""
        with _bucket_errors("the bucket"):
            for part in obstore.list(self._store, "sha256/"):
                yield from (_info(each) for each in part if not each["path"].endswith(_SUMS))

    def check(self, digest: str) -> None:
        """Compute sha256 and checksums of the whole object again. Raises `DamagedBlobError`, `NotFoundError`."""
        if self._sums_of(digest) != self.sums(digest):
            raise _damaged(digest, "its checksums")

    def renew_sums(self, digest: str) -> None:
        """Make its checksums anew. Raises `DamagedBlobError` where the object itself differs, `NotFoundError`."""
        sums = self._sums_of(digest)
        with _bucket_errors(digest):
            obstore.put(self._store, _key(digest) + _SUMS, sums)

    def _sums_of(self, digest: str) -> bytes:
        """The checksums of its blocks as it lies there, where that is what its digest says."""
        sums = BlockSums()
        for part in self._verified_parts(digest):
            sums.update(memoryview(part))
        return sums.finish()

    @contextlib.contextmanager
    def local(self, digest: str) -> Iterator[Path]:
        """A copy on this machine's disk, verified while it arrives and gone after the block."""
        temporary = self._incoming / f"{secrets.token_hex(12)}.part"
        try:
            with disk_errors(temporary), temporary.open("xb") as handle:
                for part in self._verified_parts(digest):
                    handle.write(part)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def url(self, digest: str, filename: str, seconds: int) -> str | None:
        """A signed address of the object.

        Where the keys are not in the settings but the machine's own, the file is saved under its digest.
        """
        address = obstore.sign(self._store, "GET", _key(digest), timedelta(seconds=seconds))
        if not (self._settings.access_key_id and self._settings.secret_access_key):
            return address
        answer = {"content-disposition": attachment(filename), "content-type": "application/octet-stream"}
        return signed_get(address.partition("?")[0], self._settings, datetime.now(UTC), seconds, answer)

    def _verified_parts(self, digest: str) -> Iterator[bytes]:
        """The whole object; raises `DamagedBlobError` behind its last part where it is not what its digest says."""
        hasher = hashlib.sha256()
        with _bucket_errors(digest):
            for part in obstore.get(self._store, _key(digest)).stream(min_chunk_size=4 << 20):
                hasher.update(part)
                yield bytes(part)
        if digest != f"sha256:{hasher.hexdigest()}":
            raise _damaged(digest, "the whole object")

    def sweep_incoming(self, older_than_seconds: float = _STALE_SECONDS) -> int:
        """Delete what interrupted uploads left on this machine; returns how many files."""
        count = 0
        for path in self._incoming.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > older_than_seconds:
                    path.unlink()
                    count += 1
        return count

    def adopt(self, path: Path, digest: str, sums: bytes) -> BlobInfo:
        """Keep a whole file whose digest and checksums are known."""
        return self.keep(path, digest, sums)

    def keep(self, temporary: Path, digest: str, sums: bytes) -> BlobInfo:
        """Send a whole file, its checksums first."""
        with _bucket_errors(digest):
            obstore.put(self._store, _key(digest) + _SUMS, sums)
            obstore.put(self._store, _key(digest), temporary, chunk_size=_PART_BYTES)
        return BlobInfo(digest, temporary.stat().st_size, time.time_ns() // 1_000_000)


class _IncomingObject:
    """See `Incoming`."""

    def __init__(self, blobs: BucketBlobs, handle: Any, path: Path) -> None:
        self._blobs, self._handle, self._path = blobs, handle, path
        self._hasher, self._sums = hashlib.sha256(), BlockSums()
        self.size_bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self.size_bytes += len(view)
        self._hasher.update(view)
        self._sums.update(view)
        while view:
            view = view[self._handle.write(view) :]

    def finish(self, digest: str | None = None, size_bytes: int | None = None) -> BlobInfo:
        found = f"sha256:{self._hasher.hexdigest()}"
        if size_bytes is not None and size_bytes != self.size_bytes:
            raise RefusedError(
                f"{self.size_bytes:,} bytes arrived where {size_bytes:,} were announced", "send it again"
            )
        if digest is not None and digest != found:
            raise RefusedError(f"the bytes are {found}, but {digest} was announced", "send it again")
        return self._blobs.keep(self._path, found, self._sums.finish())


class _Verified(io.RawIOBase):
    """Reads block by block and compares each with its checksum; whoever reads on gets more of them by one request."""

    def __init__(self, store: S3Store, info: BlobInfo, sums: bytes) -> None:
        self._store, self._digest, self._size, self._sums = store, info.digest, info.size_bytes, sums
        if len(sums) != -(-self._size // BLOCK_BYTES) * _SUM_BYTES:
            raise _damaged(self._digest, "its length, or its checksums'")
        self._position, self._blocks, self._ahead = 0, dict[int, memoryview](), 1

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
        if self._position >= self._size or not target:
            return 0
        index, within = divmod(self._position, BLOCK_BYTES)
        if index not in self._blocks:
            self._fetch(index)
        part = self._blocks[index][within : within + len(target)]
        target[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _fetch(self, index: int) -> None:
        self._ahead = min(2 * self._ahead, _MOST_BLOCKS) if index - 1 in self._blocks else 1
        start = index * BLOCK_BYTES
        stop = min(start + self._ahead * BLOCK_BYTES, self._size)
        with _bucket_errors(self._digest):
            data = memoryview(
                bytes(obstore.get_range(self._store, _key(self._digest), start=start, end=stop))
            )
        self._blocks = {}
        for place in range(0, stop - start, BLOCK_BYTES):
            block, number = data[place : place + BLOCK_BYTES], index + place // BLOCK_BYTES
            if blake3.blake3(block).digest() != self._sums[number * _SUM_BYTES : (number + 1) * _SUM_BYTES]:
                raise _damaged(self._digest, f"bytes {start + place:,} to {start + place + len(block):,}")
            self._blocks[number] = block


def _key(digest: str) -> str:
    name = digest.removeprefix("sha256:")
    return f"sha256/{name[:2]}/{name[2:4]}/{name}"


def _info(meta: Any) -> BlobInfo:
    modified = int(meta["last_modified"].timestamp() * 1000)
    return BlobInfo(f"sha256:{meta['path'].rpartition('/')[2]}", meta["size"], modified)


@contextlib.contextmanager
def _bucket_errors(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{name}: no such blob") from error
    except (BaseError, OSError) as error:
        raise NomoatError(f"{name}: the bucket does not answer as it should: {str(error)[:300]}",
                          "check the bucket, AWS_ENDPOINT_URL and the credentials") from error  # fmt: skip


def _damaged(digest: str, place: str) -> DamagedBlobError:
    return DamagedBlobError(
        f"{digest}: {place}: differs from what was stored",
        "`nomoat hub check` lists what is damaged, a backup or another hub has it whole",
    )
