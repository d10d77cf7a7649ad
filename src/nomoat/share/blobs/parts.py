"""Parts of large uploads, kept until the last one is there: `<upload>/<number>`, each written in one step."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nomoat.base.errors import InputError
from nomoat.base.files import disk_errors
from nomoat.share.errors import RefusedError

__all__ = ["PartFiles"]

_BLOCK_BYTES = 4 << 20
_STALE_SECONDS = 2 * 24 * 3600
_NAME = re.compile(r"[a-z0-9-]{1,120}")


class PartFiles:
    """Parts in a folder. An upload's name comes from the hub, never from a client."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def writing(self, upload: str, number: int) -> Iterator[BinaryIO]:
        """A file for one part. It counts once the block ends without an error; sent again, the last one counts."""
        folder = self._folder(upload)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            temporary = folder / f"{secrets.token_hex(8)}.part"
            try:
                with temporary.open("xb") as handle:
                    yield handle
                temporary.replace(folder / f"{number:05d}")
            finally:
                temporary.unlink(missing_ok=True)

    def numbers(self, upload: str) -> list[int]:
        """Which parts of an upload are here, so that it can go on where it stopped."""
        return sorted(int(path.name) for path in self._folder(upload).glob("[0-9]*") if path.name.isdigit())

    def read(self, upload: str, count: int) -> Iterator[bytes]:
        """All bytes of parts 1 to `count`. Raises `RefusedError` where one is missing."""
        for number in range(1, count + 1):
            try:
                with (self._folder(upload) / f"{number:05d}").open("rb") as handle:
                    while block := handle.read(_BLOCK_BYTES):
                        yield block
            except FileNotFoundError as error:
                raise RefusedError(
                    f"part {number} of {count} was never sent", "send it, then complete again"
                ) from error

    def drop(self, upload: str) -> None:
        """Delete the parts of an upload."""
        shutil.rmtree(self._folder(upload), ignore_errors=True)

    def sweep(self, older_than_seconds: float = _STALE_SECONDS) -> int:
        """Delete uploads that nobody went on with; returns how many."""
        count = 0
        for folder in self._root.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime > older_than_seconds:
                    shutil.rmtree(folder, ignore_errors=True)
                    count += 1
        return count

    def _folder(self, upload: str) -> Path:
        if not _NAME.fullmatch(upload):
            raise InputError(f"{upload[:60]!r} is no upload")
        return self._root / upload
