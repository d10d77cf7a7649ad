"""From files on this machine to a commit on a hub: what is there already is not sent, and all of it appears at once.

with Connection(reference.hub, token) as connection:
    pushed = Pusher(connection, reference.repo).push(outgoing, PushOptions(message="First version"))
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from nomoat.base.errors import NomoatError, NotFoundError
from nomoat.base.progress import Progress, Silent
from nomoat.share.client.connection import Connection
from nomoat.share.client.large_files import LargeFiles, Sent
from nomoat.share.client.outgoing import LocalFile, Outgoing
from nomoat.share.client.refusals import UnreachableError
from nomoat.share.client.remote import RemoteFile, RemoteRepo, Snapshot, api_path
from nomoat.share.client.xet_upload import offers_xet, send_by_xet
from nomoat.share.errors import ConflictError
from nomoat.share.names import MAIN, RepoName

__all__ = ["Mended", "PushOptions", "Pushed", "Pusher"]

_PER_REQUEST = 256
_MOST_INLINE_BYTES = 48 << 20  # of small files in one commit, before they are written as base64
_MOST_OPERATIONS = 2_000


@dataclass(frozen=True)
class PushOptions:
    """How to push. `remove` are paths that the commit takes away where they exist.

    `whole` sends large files as they are, without looking for what the hub has of them.
    """

    message: str = ""
    branch: str = MAIN
    remove: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Pushed:
    """What a push came to. `commit` is the branch's head; `is_new` is False where everything was there already."""

    commit: str
    url: str
    is_new: bool
    sent_bytes: int
    files: int


@dataclass(frozen=True)
class Mended:
    """Files that the hub had damaged and has whole again, in every version that has them, and the branch as it is."""

    head: Snapshot | None
    sent_bytes: int = 0
    files: int = 0


class Pusher:
    """Pushes to one repository."""

    def __init__(self, connection: Connection, repo: RepoName, progress: Progress | None = None) -> None:
        self._connection, self._repo = connection, repo
        self._progress = progress or Silent()
        self.remote = RemoteRepo(connection, repo)

    def create(self, private: bool) -> bool:
        """Make the repository unless it exists; whether it is new."""
        wanted = {"type": self._repo.kind, "name": self._repo.name, "organization": self._repo.owner}
        try:
            self._connection.post("/api/repos/create", {**wanted, "private": private})
        except ConflictError:
            return False
        return True

    def head(self, branch: str = MAIN) -> Snapshot | None:
        """The branch as it is now; None where it, or the whole repository, is not there yet."""
        try:
            return self.remote.snapshot(branch)
        except NotFoundError:
            return None

    def is_there(self, outgoing: Outgoing, head: Snapshot | None) -> bool:
        """Whether every file is on the hub already, as it is here."""
        return head is not None and all(_is_same(file, head.file(file.path)) for file in outgoing.files)

    def mend(self, outgoing: Outgoing, head: Snapshot | None, branch: str = MAIN) -> Mended:
        """Send again, whole, what is the same on the hub but damaged. No version changes by it; do it before `push`."""
        damaged = {file.path: file for file in (head.files if head else ()) if file.damaged}
        files = [file for file in outgoing.files if _is_same(file, damaged.get(file.path))]
        if not files:
            return Mended(head)
        self._progress.start(f"Mending {outgoing.name}", sum(file.size_bytes for file in files) / 1e6, "MB")
        count = LargeFiles(self._connection, self._repo, Sent(self._progress)).send(files, branch)
        self._progress.finish()
        return Mended(self.head(branch), count, len(files))

    def push(self, outgoing: Outgoing, options: PushOptions, head: Snapshot | None) -> Pushed:
        """Send what `head` lacks and commit it. Raises `ConflictError` where somebody else committed meanwhile."""
        before = {file.path: file for file in head.files} if head else {}
        changed = [file for file in outgoing.files if not _is_same(file, before.get(file.path))]
        removed = [path for path in options.remove if path in before and outgoing.file(path) is None]
        address = self._page()
        if not changed and not removed:
            return Pushed(head.commit if head else "", address, False, 0, 0)
        large, small = self._sorted(changed, options.branch)
        sent_bytes = self._send(large, options, outgoing.name, before) if large else 0
        message = options.message or f"Upload {outgoing.name} with nomoat"
        commit = head.commit if head else ""
        for operations in _batches(
            [*map(_large_line, large), *map(_small_line, small), *map(_removal, removed)]
        ):
            commit = self._commit(operations, message, options.branch, commit)
        inline = sum(file.size_bytes for file in small)
        return Pushed(commit, address, True, sent_bytes + inline, len(changed) + len(removed))

    def _page(self) -> str:
        prefix = "datasets/" if self._repo.kind == "dataset" else ""
        return f"{self._connection.hub.endpoint}/{prefix}{self._repo}"

    def _sorted(self, files: Sequence[LocalFile], branch: str) -> tuple[list[LocalFile], list[LocalFile]]:
        """`(large, small)`, as the hub wants them. What its .gitignore names is sent all the same: it was asked for."""
        modes: dict[str, str] = {}
        for start in range(0, len(files), _PER_REQUEST):
            part = files[start : start + _PER_REQUEST]
            wanted = [
                {"path": f.path, "size": f.size_bytes, "sample": base64.b64encode(f.sample()).decode()}
                for f in part
            ]
            place = f"{api_path(self._repo)}/preupload/{quote(branch, safe='')}"
            content, _ = self._connection.post(place, {"files": wanted})
            answers = content.get("files") if isinstance(content, dict) else None
            modes |= {str(each.get("path")): str(each.get("uploadMode")) for each in answers or []}
        large = [file for file in files if file.size_bytes and modes.get(file.path) == "lfs"]
        return large, [file for file in files if file not in large]

    def _send(
        self, files: list[LocalFile], options: PushOptions, name: str, before: Mapping[str, RemoteFile]
    ) -> int:
        self._progress.start(f"Pushing {name}", sum(file.size_bytes for file in files) / 1e6, "MB")
        sent, branch = Sent(self._progress), options.branch
        large = LargeFiles(self._connection, self._repo, sent)
        count, rest = (0, files) if options.whole else large.send_changes(files, before, branch)
        # Nearby, to look for known chunks takes longer than to send them.
        chunked = not (options.whole or self._connection.is_local)
        if rest and chunked and offers_xet(self._connection, self._repo, branch):
            count += send_by_xet(self._connection, self._repo, branch, rest, sent)
        elif rest:
            count += large.send(rest, branch)
        self._progress.finish()
        return count

    def _commit(self, operations: list[dict[str, Any]], message: str, branch: str, parent: str) -> str:
        title, _, description = message.partition("\n")
        header = {
            "summary": title,
            "description": description.strip(),
            **({"parentCommit": parent} if parent else {}),
        }
        lines = [{"key": "header", "value": header}, *operations]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        place = f"{api_path(self._repo)}/commit/{quote(branch, safe='')}"
        try:
            content, _ = self._connection.post(
                place, body=body, headers={"Content-Type": "application/x-ndjson"}, repeatable=False
            )
        except UnreachableError as error:
            raise UnreachableError(f"{error.message}; whether the commit was made is not known",
                                   "run it again: if it was, nothing is sent twice") from error  # fmt: skip
        commit = content.get("commitOid") if isinstance(content, dict) else None
        if not isinstance(commit, str):
            raise NomoatError(f"{self._connection.hub.host}: the hub does not say what it committed",
                              "look at the repository's page")  # fmt: skip
        return commit


def _is_same(file: LocalFile, remote: RemoteFile | None) -> bool:
    if remote is None or remote.size_bytes != file.size_bytes:
        return False
    return remote.digest == file.digest if remote.digest else remote.git_oid == file.git_oid()


def _large_line(file: LocalFile) -> dict[str, Any]:
    oid = file.digest.removeprefix("sha256:")
    return {
        "key": "lfsFile",
        "value": {"path": file.path, "algo": "sha256", "oid": oid, "size": file.size_bytes},
    }


def _small_line(file: LocalFile) -> dict[str, Any]:
    with file.open() as reader:
        content = base64.b64encode(reader.read()).decode()
    return {"key": "file", "value": {"path": file.path, "encoding": "base64", "content": content}}


def _removal(path: str) -> dict[str, Any]:
    return {"key": "deletedFile", "value": {"path": path}}


def _batches(operations: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Operations in commits of a size that hubs take: one, unless there are very many small files."""
    batch: list[dict[str, Any]] = []
    inline = 0
    for operation in operations:
        size = len(operation["value"].get("content", ""))
        if batch and (inline + size > _MOST_INLINE_BYTES or len(batch) >= _MOST_OPERATIONS):
            yield batch
            batch, inline = [], 0
        batch.append(operation)
        inline += size
    yield batch
