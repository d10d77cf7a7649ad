"""Sending large files: Git LFS's batch request, then each file in one piece or, if the hub likes, in parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Any

from nomoat.base.errors import NomoatError
from nomoat.base.plain_text import printable
from nomoat.base.progress import Progress
from nomoat.share.blobs.patch import PATCH, patch_bytes, write_patch
from nomoat.share.client.block_sums import block_sums
from nomoat.share.client.connection import Connection
from nomoat.share.client.outgoing import LocalFile
from nomoat.share.client.patches import LEAST_BYTES, changes
from nomoat.share.client.refusals import UnreachableError
from nomoat.share.client.remote import RemoteFile
from nomoat.share.errors import QuotaError, RefusedError
from nomoat.share.names import RepoName

__all__ = ["LargeFiles", "Sent"]

_AT_ONCE = 4
_PER_REQUEST = 100
_CHUNK_BYTES = 1 << 20
_COPIED_PER_SECOND = 20e6  # at least, by a hub that makes a file of a patch
_LFS = {"Accept": "application/vnd.git-lfs+json", "Content-Type": "application/vnd.git-lfs+json"}


class Sent:
    """Counts bytes for a progress bar, from several threads. Bytes of a failed try are taken back."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._lock = progress, threading.Lock()

    def add(self, count: int) -> None:
        """So many more bytes are there; negative for those that must go again."""
        with self._lock:
            self._progress.advance(count / 1e6)


class LargeFiles:
    """Sends large files to one repository. What the hub has already is not sent."""

    def __init__(self, connection: Connection, repo: RepoName, sent: Sent) -> None:
        self._connection, self._sent = connection, sent
        prefix = "datasets/" if repo.kind == "dataset" else ""
        self._batch = f"/{prefix}{repo}.git/info/lfs/objects/batch"

    def send(self, files: Sequence[LocalFile], branch: str) -> int:
        """Send the files that the hub lacks; returns how many bytes those have."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            asked = self._answers(files, branch)
            return sum(sum(pool.map(self._send, *zip(*part, strict=True))) for part in asked if part)

    def send_changes(
        self, files: Sequence[LocalFile], older: Mapping[str, RemoteFile], branch: str
    ) -> tuple[int, list[LocalFile]]:
        """Of files with an `older` version send what that lacks; returns how many bytes, and the files that are left.

        Those have no such version, or too little in common with it, or the hub takes no patches.
        """
        found = {file.path: older[file.path] for file in files if _may_share(file, older.get(file.path))}
        count, sent = 0, set[str]()
        for part in self._answers([file for file in files if file.path in found], branch):
            for file, answer in part:
                size = self._send_patch(file, found[file.path], answer.get("actions") or {})
                if size is not None:
                    count += size
                    sent.add(file.path)
        return count, [file for file in files if file.path not in sent]

    def _answers(
        self, files: Sequence[LocalFile], branch: str
    ) -> Iterator[list[tuple[LocalFile, dict[str, Any]]]]:
        """Files and what the hub wants of each, some at a time."""
        for start in range(0, len(files), _PER_REQUEST):
            by_oid = {_oid(file): file for file in files[start : start + _PER_REQUEST]}
            answers = self._ask(list(by_oid.values()), branch)
            yield [(by_oid[each["oid"]], each) for each in answers if each.get("oid") in by_oid]

    def _ask(self, files: Sequence[LocalFile], branch: str) -> list[dict[str, Any]]:
        wanted = {
            "operation": "upload", "transfers": ["basic", "multipart", PATCH], "hash_algo": "sha256",
            "ref": {"name": branch}, "objects": [{"oid": _oid(file), "size": file.size_bytes} for file in files],
        }  # fmt: skip
        content, _ = self._connection.post(self._batch, wanted, headers=_LFS)
        objects = content.get("objects") if isinstance(content, dict) else None
        if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
            raise NomoatError(
                f"{self._connection.hub.host}: no answer on large files", "check the host and the port"
            )
        return objects

    def _send(self, file: LocalFile, answer: dict[str, Any]) -> int:
        if "error" in answer:
            raise _refusal(file, answer["error"])
        actions = answer.get("actions") or {}
        if "upload" not in actions:
            self._sent.add(file.size_bytes)
            return 0
        upload, header = actions["upload"], actions["upload"].get("header") or {}
        if "chunk_size" in header:
            self._send_parts(file, upload["href"], header)
        else:
            own = {name: value for name, value in header.items() if isinstance(value, str)}
            self._put(upload["href"], file, 0, file.size_bytes, own)
        if "verify" in actions:
            self._connection.post(
                actions["verify"]["href"], {"oid": _oid(file), "size": file.size_bytes}, headers=_LFS
            )
        return file.size_bytes

    def _send_patch(self, file: LocalFile, older: RemoteFile, actions: dict[str, Any]) -> int | None:
        """Send what the older version lacks; returns how many bytes, or None where the whole file must go."""
        sums = block_sums(self._connection, older) if PATCH in actions else None
        if sums is None:
            return None
        entries = changes(file, sums, lambda *span: block_sums(self._connection, older, span))
        if entries is None:
            return None

        def patch() -> Iterator[bytes]:
            with file.open() as reader:
                yield from write_patch(entries, reader)

        size, address = patch_bytes(entries), f"{actions[PATCH]['href']}?base={older.digest}"
        headers, patience = {"Content-Length": str(size)}, file.size_bytes / _COPIED_PER_SECOND
        try:
            self._connection.put(address, patch, headers, patience)
        except NomoatError as error:
            if isinstance(error, (QuotaError, UnreachableError)):
                raise
            return None  # whatever is wrong with the older version, the whole file can be sent
        self._sent.add(file.size_bytes)
        return size

    def _send_parts(self, file: LocalFile, href: str, header: dict[str, str]) -> None:
        size = int(header["chunk_size"])
        urls = {int(name): url for name, url in header.items() if name.isdigit()}
        if sorted(urls) != list(range(1, ceil(file.size_bytes / size) + 1)):
            raise RefusedError(
                f"{file.path}: the hub asks for parts that do not make the file", "report it to the hub"
            )
        # Parts that came before a broken connection: a hub that keeps them says so, and then has their etags.
        there = dict(pair.split("=", 1) for pair in header.get("received", "").split(",") if "=" in pair)
        parts = []
        for number, url in sorted(urls.items()):
            start, end = (number - 1) * size, min(number * size, file.size_bytes)
            etag = there.get(str(number))
            if etag is None:
                etag = self._put(url, file, start, end, {})
            else:
                self._sent.add(end - start)
            parts.append({"partNumber": number, "etag": etag})
        self._connection.post(href, {"oid": _oid(file), "parts": parts}, headers=_LFS)

    def _put(self, url: str, file: LocalFile, start: int, end: int, header: dict[str, str]) -> str:
        """Send some of a file; returns the etag that the hub gives it."""
        headers = {**header, "Content-Length": str(end - start)}
        answer = self._connection.put(url, self._reader(file, start, end), headers)
        return str(answer.get("ETag", ""))

    def _reader(self, file: LocalFile, start: int, end: int) -> Callable[[], Iterator[bytes]]:
        counted = 0

        def chunks() -> Iterator[bytes]:
            nonlocal counted
            self._sent.add(-counted)
            counted = 0
            with file.open() as reader:
                reader.seek(start)
                while counted < end - start:
                    chunk = reader.read(min(_CHUNK_BYTES, end - start - counted))
                    if not chunk:
                        raise RefusedError(f"{file.path}: became shorter while it was sent", "send it again")
                    yield chunk
                    counted += len(chunk)
                    self._sent.add(len(chunk))

        return chunks


def _may_share(file: LocalFile, older: RemoteFile | None) -> bool:
    return older is not None and not older.damaged and min(file.size_bytes, older.size_bytes) >= LEAST_BYTES


def _oid(file: LocalFile) -> str:
    return file.digest.removeprefix("sha256:")


def _refusal(file: LocalFile, error: Any) -> NomoatError:
    message = str(error.get("message", "")) if isinstance(error, dict) else str(error)
    kind = QuotaError if isinstance(error, dict) and error.get("code") in {413, 507} else RefusedError
    text = printable(message)[:500]
    return kind(f"{file.path}: {text or 'the hub does not take it'}", "ask whoever runs that hub")
