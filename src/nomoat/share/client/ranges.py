"""Parts of a remote file over HTTP, each checked against what was asked for."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator

import httpx

from nomoat.base.errors import NomoatError, NotFoundError
from nomoat.share.client.connection import Connection
from nomoat.share.client.refusals import UnreachableError
from nomoat.share.client.remote import RemoteFile
from nomoat.share.errors import ForbiddenError, RefusedError, UnauthorizedError

__all__ = ["NoRangesError", "RangeSource"]

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class NoRangesError(NomoatError):
    """The server sends whole files only."""


class RangeSource:
    """One remote file. Where the hub sends its readers elsewhere, later parts are asked for there at once."""

    def __init__(self, connection: Connection, url: str, file: RemoteFile) -> None:
        self._connection, self._url, self._file = connection, url, file
        self._lock = threading.Lock()
        self._direct: str | None = None

    def read(self, start: int, end: int, take: Callable[[bytes], None]) -> None:
        """Give bytes `start` to `end` to `take` as they come; a broken connection is taken up where it broke.

        Raises `NoRangesError`, `RefusedError` where the answer is another part than the one asked for.
        """
        at = start

        def once() -> None:
            nonlocal at
            with self._open(at, end) as answer:
                self._check(answer, at, end)
                for chunk in answer.iter_raw():
                    if at + len(chunk) > end:
                        raise self._lie(f"sends more than the {end - start:,} bytes that were asked for")
                    take(chunk)
                    at += len(chunk)
                if at < end:
                    raise UnreachableError(f"{self._connection.hub.host}: the connection ended too early",
                                           "run it again: it goes on where it stopped")  # fmt: skip

        if start < end:
            self._connection.retried(once)

    def read_whole(self, take: Callable[[bytes], None]) -> None:
        """Give the whole file to `take`, from its first byte; never taken up in the middle."""
        count = 0
        with self._connection.stream("GET", self._url) as answer:
            for chunk in answer.iter_raw():
                count += len(chunk)
                if count > self._file.size_bytes:
                    raise self._lie(f"is longer than the {self._file.size_bytes:,} bytes it was said to have")
                take(chunk)
        if count < self._file.size_bytes:
            raise UnreachableError(f"{self._connection.hub.host}: the connection ended too early",
                                   "run it again")  # fmt: skip

    @contextlib.contextmanager
    def _open(self, start: int, end: int) -> Iterator[httpx.Response]:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        with self._lock:
            direct = self._direct
        stack = contextlib.ExitStack()
        try:
            answer = stack.enter_context(self._connection.stream("GET", direct or self._url, headers=headers))
        except (UnauthorizedError, ForbiddenError, NotFoundError):
            # Such addresses are valid for some minutes only: ask the hub for a new one.
            if direct is None:
                raise
            answer = stack.enter_context(self._connection.stream("GET", self._url, headers=headers))
        with stack:
            with self._lock:
                self._direct = str(answer.url)
            yield answer

    def _check(self, answer: httpx.Response, start: int, end: int) -> None:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise self._lie("comes compressed, which was not asked for")
        if answer.status_code == 200:
            self._check_whole(answer, start, end)
            return
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != start or int(match[2]) >= end:
            raise self._lie("comes in another part than the one that was asked for")
        if match[3] != "*" and int(match[3]) != self._file.size_bytes:
            raise self._lie(
                f"has {int(match[3]):,} bytes, not the {self._file.size_bytes:,} it was said to have"
            )

    def _check_whole(self, answer: httpx.Response, start: int, end: int) -> None:
        if start or end != self._file.size_bytes:
            raise NoRangesError(f"{self._connection.hub.host} sends whole files only")
        length = answer.headers.get("Content-Length", "")
        if length.isdigit() and int(length) != self._file.size_bytes:
            raise self._lie(
                f"has {int(length):,} bytes, not the {self._file.size_bytes:,} it was said to have"
            )

    def _lie(self, what: str) -> RefusedError:
        return RefusedError(f"{self._connection.hub.host}: {self._file.path} {what}",
                            "nothing was kept; report it to whoever runs that hub")  # fmt: skip
