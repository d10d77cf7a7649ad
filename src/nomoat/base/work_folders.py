"""Folders that belong to one run of the program: gone when it ends, and swept by a later run where it was killed."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from nomoat.base.files import disk_errors, lock_folder

__all__ = ["sweep_work_folders", "work_folder"]


@contextlib.contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """An empty folder in `parent`, which may be new, for this run alone; it goes with the block.

    What killed runs left in `parent` goes first, so nothing else may be kept there. Raises `DiskFullError`.
    """
    with contextlib.ExitStack() as stack:
        with disk_errors(parent):
            parent.mkdir(parents=True, exist_ok=True)
            sweep_work_folders(parent)
            folder = _held(parent.absolute(), stack)
        yield folder


def sweep_work_folders(parent: Path) -> int:
    """Delete what runs left in `parent` that were killed; returns how many. Folders of those that live stay."""
    count = 0
    for folder in parent.glob("*/"):
        with contextlib.suppress(FileNotFoundError), lock_folder(folder) as held:
            if held:
                shutil.rmtree(folder, ignore_errors=True)
                count += 1
    return count


def _held(parent: Path, stack: contextlib.ExitStack) -> Path:
    """A new folder that is locked, and deleted before it is unlocked."""
    while True:
        folder = parent / secrets.token_hex(8)
        folder.mkdir()
        with contextlib.ExitStack() as attempt:
            # Before it is locked, another run may take it for one that was left, and delete it.
            with contextlib.suppress(FileNotFoundError):
                if attempt.enter_context(lock_folder(folder)) and folder.is_dir():
                    attempt.callback(shutil.rmtree, folder, ignore_errors=True)
                    stack.enter_context(attempt.pop_all())
                    return folder
