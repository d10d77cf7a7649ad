"""Fetches files in pieces over several connections, and believes nothing until every byte has been digested."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nomoat.base.errors import DiskFullError
from nomoat.base.files import disk_errors, lock_folder
from nomoat.base.progress import Progress
from nomoat.share.client.delta import Older
from nomoat.share.client.partial import PartialFile, PieceSum
from nomoat.share.client.ranges import NoRangesError, RangeSource
from nomoat.share.client.rate import RateLimit
from nomoat.share.client.remote import RemoteFile
from nomoat.share.errors import ConflictError, RefusedError

__all__ = ["Download", "Transfer", "discard", "fetched"]

_WAIT_SECONDS, _WAIT_FOR_THREADS_SECONDS = 0.1, 1.0
_SPARE_BYTES = 64 << 20  # what a disk should still have afterwards


@dataclass(frozen=True)
class Transfer:
    """How to fetch: over how many connections, and how fast at most."""

    connections: int = 4
    bytes_per_second: float | None = None


@dataclass(frozen=True)
class Download:
    """A remote file, the folder in which it comes together, and an older version that may have parts of it."""

    file: RemoteFile
    source: RangeSource
    folder: Path
    older: Older | None = None

    @property
    def path(self) -> Path:
        """Where its bytes are in the end."""
        return self.folder / "data"


@contextlib.contextmanager
def fetched(wanted: Sequence[Download], transfer: Transfer, progress: Progress, label: str) -> Iterator[int]:
    """Bring every file of `wanted` to the disk, whole and verified; what is left of them afterwards is deleted.

    Yields how many bytes had to be fetched.

    When this is interrupted, what was fetched stays and is not fetched again. Raises `RefusedError` where the bytes
    are not those that were announced (they are deleted), `ConflictError` where another process fetches the same,
    `DiskFullError` before anything is fetched, `UnreachableError`.
    """
    wanted = list({item.folder: item for item in wanted}.values())  # the same bytes under two names come once
    with contextlib.ExitStack() as stack:
        partials = [stack.enter_context(_opened(item)) for item in wanted]
        pairs = list(zip(wanted, partials, strict=True))
        taken = sum(item.older.take_over(partial, item.source) for item, partial in pairs if item.older)
        missing = sum(_size(partial, index) for partial in partials for index in partial.missing())
        if wanted:
            _check_room(wanted[0].folder, missing)
        total = sum(item.file.size_bytes for item in wanted)
        progress.start(label, total / 1e6, "MB")
        progress.advance((total - missing) / 1e6)
        with _Crew(pairs, transfer, progress) as crew:
            for partial in partials:
                _verify(partial, crew)
        progress.finish()
        yield taken + missing
        for partial in partials:
            partial.remove()


def discard(folder: Path) -> None:
    """Delete what a process that was killed at the very end left in `folder`; not while another one works there."""
    if not folder.is_dir():
        return
    with contextlib.suppress(FileNotFoundError), lock_folder(folder) as held:
        if held:
            shutil.rmtree(folder)


class _Crew:
    """Threads that fetch pieces, first things first. The caller follows behind and learns of their errors."""

    def __init__(
        self, work: list[tuple[Download, PartialFile]], transfer: Transfer, progress: Progress
    ) -> None:
        self._jobs = deque((item, partial, index) for item, partial in work for index in partial.missing())
        self._limit, self._progress = RateLimit(transfer.bytes_per_second), progress
        self._change = threading.Condition()
        self._whole = threading.Lock()
        self._stopped = False
        self._error: BaseException | None = None
        self._fetched = self._reported = 0
        self._since = self._begun = time.monotonic()
        count = min(transfer.connections, len(self._jobs))
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def __enter__(self) -> _Crew:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        until = time.monotonic() + _WAIT_FOR_THREADS_SECONDS
        for thread in self._threads:
            # One that waits for a silent server ends with the process: nobody should have to wait with it.
            thread.join(timeout=max(0.0, until - time.monotonic()))

    def wait_for(self, partial: PartialFile, index: int) -> None:
        """Until a piece is there. Raises what stopped the threads."""
        while not partial.has(index):
            with self._change:
                if self._error is not None:
                    raise self._error
                self._change.wait(_WAIT_SECONDS)
            self.report()

    def report(self) -> None:
        """Move the bar."""
        new = self._fetched - self._reported
        self._reported += new
        elapsed = time.monotonic() - self._begun
        rate = f"{self._reported / 1e6 / elapsed:.1f} MB/s" if self._reported and elapsed > 0.5 else ""
        self._progress.advance(new / 1e6, rate)

    def _work(self) -> None:
        while not self._stopped:
            with self._change:
                if not self._jobs:
                    return
                item, partial, index = self._jobs.popleft()
            try:
                self._fetch(item, partial, index)
            except BaseException as error:  # it is raised again where somebody waits
                with self._change:
                    self._error = self._error or error
                self._stopped = True
            with self._change:
                self._change.notify_all()

    def _fetch(self, item: Download, partial: PartialFile, index: int) -> None:
        start, end = partial.span(index)
        writer = _PieceWriter(partial, index)
        try:
            item.source.read(start, end, lambda chunk: self._take(writer, chunk))
            writer.finish()
        except NoRangesError:
            with self._whole:
                if not partial.has(index):
                    self._fetch_whole(item, partial)

    def _fetch_whole(self, item: Download, partial: PartialFile) -> None:
        """All pieces from one answer; those that are there already pass by unused."""
        index, writer = 0, _PieceWriter(partial, 0)

        def take(chunk: bytes) -> None:
            nonlocal index, writer
            view = memoryview(chunk)
            while view:
                part, view = view[: writer.room], view[writer.room :]
                self._take(writer, bytes(part))
                if not writer.room:
                    writer.finish()
                    index += 1
                    writer = _PieceWriter(partial, index)

        item.source.read_whole(take)

    def _take(self, writer: _PieceWriter, chunk: bytes) -> None:
        if self._stopped:
            raise InterruptedError
        self._limit.take(len(chunk))
        writer.write(chunk)
        with self._change:
            self._fetched += len(chunk)


class _PieceWriter:
    """Fills one piece from its start."""

    def __init__(self, partial: PartialFile, index: int) -> None:
        self._partial, self._index = partial, index
        self._at, self._end = partial.span(index)
        self._sum = PieceSum()
        self._is_there = partial.has(index)

    @property
    def room(self) -> int:
        """Bytes that are missing."""
        return self._end - self._at

    def write(self, chunk: bytes) -> None:
        """The next bytes."""
        if not self._is_there:
            self._partial.write(self._at, chunk)
            self._sum.update(chunk)
        self._at += len(chunk)

    def finish(self) -> None:
        """The piece is complete."""
        if not self._is_there:
            self._partial.finish(self._index, self._sum.hexdigest())


@contextlib.contextmanager
def _opened(item: Download) -> Iterator[PartialFile]:
    with disk_errors(item.folder):
        item.folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(item.folder) as held:
        if not held:
            raise ConflictError(f"{item.file.path} is being fetched by another nomoat",
                                "wait until it is done, then run this again")  # fmt: skip
        partial = PartialFile(item.folder, item.file)
        try:
            yield partial
        finally:
            partial.close()


def _verify(partial: PartialFile, crew: _Crew) -> None:
    """Digest the pieces in order as they arrive: when the last one is there, the digest nearly is, too."""
    file, hasher = partial.file, partial.file.hasher()
    for index in range(partial.count):
        crew.wait_for(partial, index)
        hasher.update(partial.read(index))
    crew.report()
    if hasher.hexdigest() != file.expected:
        partial.remove()
        raise RefusedError(f"{file.path}: the bytes that came are not those that the hub announced",
                           "nothing was kept; run it again, and if it stays so, report it to the hub")  # fmt: skip
    partial.flush()


def _check_room(folder: Path, missing: int) -> None:
    free = shutil.disk_usage(folder).free
    if missing and missing + _SPARE_BYTES > free:
        raise DiskFullError(f"{folder}: {missing / 1e6:,.0f} MB are to be fetched, {free / 1e6:,.0f} MB are free",
                            "free some space, or set NOMOAT_HOME to another disk")  # fmt: skip


def _size(partial: PartialFile, index: int) -> int:
    start, end = partial.span(index)
    return end - start
