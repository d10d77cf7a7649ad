"""Atomic files: a reader sees the old content or the new, never half of either."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nomoat.base.errors import DiskFullError, InputError, NomoatError

__all__ = [
    "atomic_path",
    "atomic_write",
    "atomic_write_json",
    "disk_errors",
    "fsync_folder",
    "lock_folder",
    "private_folder",
]

_OTHERS_MAY = 0o077
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's write errors on `path` into a `NomoatError` with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(
                f"{path}: no room left on the disk ({error.strerror})",
                "free some space and run the same command again; what existed before is unchanged",
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise NomoatError(
                f"{path}: may not be written ({error.strerror})",
                "choose a folder that you own, or set NOMOAT_HOME to one",
            ) from error
        raise


def fsync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def private_folder(folder: Path) -> None:
    """Make `folder`, or take an existing one, so that no other account of this machine can look into it.

    Raises `InputError` for a folder that is everybody's, such as /tmp. Where its modes cannot be changed, because it is
    somebody else's or on a file system without them, a warning is logged.
    """
    with disk_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
        if mode & stat.S_ISVTX:
            raise InputError(f"{folder}: is a folder that everybody uses", "name a folder of its own in it")
        if mode & _OTHERS_MAY:
            try:
                folder.chmod(0o700)
            except PermissionError:
                logging.getLogger("nomoat.files").warning(
                    "%s: other accounts of this machine can read it", folder
                )


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[bool]:
    """Hold the existing `folder` for this process; False where another process holds it.

    The lock is the kernel's (flock): it leaves no file and ends with the process, however that ends.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it over `path`.

    On any error, Ctrl-C included, the temporary file is removed and `path` keeps its old content.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
            fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes | str) -> None:
    """Replace the content of `path` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def atomic_write_json(path: Path, content: Any) -> None:
    """Replace `path` by `content` as indented JSON."""
    atomic_write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
