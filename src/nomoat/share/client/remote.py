"""What a hub says about a repository: its commit, its files with their digests, its tags."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from nomoat.base.errors import NomoatError, NotFoundError
from nomoat.share.client.connection import Connection
from nomoat.share.errors import RefusedError
from nomoat.share.names import MAIN, RepoName, check_path, is_commit, is_digest

__all__ = ["Hasher", "RemoteFile", "RemoteRepo", "Snapshot", "api_path"]

_GIT_OID = re.compile(r"[0-9a-f]{40}")
_MOST_FILES = 100_000
_MOST_BYTES = 1 << 50
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')
_CHUNK_BYTES = 8 << 20
_LIES = "do not trust this hub with it; report it to whoever runs it"


class Hasher(Protocol):
    """Of `hashlib`."""

    def update(self, data: bytes, /) -> None:
        """The next bytes."""

    def hexdigest(self) -> str:
        """What they come to."""


@dataclass(frozen=True)
class RemoteFile:
    """A file at a commit. A large one has `digest` (sha256 of its bytes); a small one is known by git's id.

    `damaged`: the hub knows that its bytes are no longer those, and wants them again.
    """

    path: str
    size_bytes: int
    git_oid: str
    digest: str | None = None
    damaged: bool = False

    @property
    def key(self) -> str:
        """What its bytes are known by; usable as the name of a folder."""
        return self.digest.removeprefix("sha256:") if self.digest else f"git-{self.git_oid}"

    def hasher(self) -> Hasher:
        """What turns the file's bytes into `expected`."""
        if self.digest:
            return hashlib.sha256()
        hasher = hashlib.sha1(usedforsecurity=False)
        hasher.update(f"blob {self.size_bytes}\0".encode())
        return hasher

    @property
    def expected(self) -> str:
        """In hex, what `hasher` must come to."""
        return self.digest.removeprefix("sha256:") if self.digest else self.git_oid

    def is_content_of(self, path: Path) -> bool:
        """Whether the file at `path` has just these bytes."""
        hasher = self.hasher()
        with path.open("rb") as handle:
            while chunk := handle.read(_CHUNK_BYTES):
                hasher.update(chunk)
        return hasher.hexdigest() == self.expected


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit."""

    repo: RepoName
    commit: str
    files: tuple[RemoteFile, ...]
    info: dict[str, Any]

    def file(self, path: str) -> RemoteFile | None:
        """The file at `path`, or None."""
        return next((file for file in self.files if file.path == path), None)


class RemoteRepo:
    """Asks one hub about one repository."""

    def __init__(self, connection: Connection, repo: RepoName) -> None:
        self.connection, self.repo = connection, repo

    def snapshot(self, revision: str = "") -> Snapshot:
        """The repository at a branch, tag or commit. Raises `NotFoundError`, `RefusedError` for a lie."""
        info = self.info(revision)
        commit = info.get("sha")
        if commit is None:
            raise NotFoundError(f"{self._name}: nothing was committed there yet", "ask its owner to push it")
        if not isinstance(commit, str) or not is_commit(commit):
            raise RefusedError(f"{self._name}: the hub names no commit", _LIES)
        return Snapshot(self.repo, commit, tuple(self._tree(commit)), info)

    def info(self, revision: str = "") -> dict[str, Any]:
        """What the hub says of the repository."""
        content, _ = self.connection.get(f"{api_path(self.repo)}/revision/{quote(revision or MAIN, safe='')}")
        if not isinstance(content, dict):
            raise NomoatError(
                f"{self._name}: the hub's answer is no repository", "check the host and the port"
            )
        return content

    def has_revision(self, name: str) -> bool:
        """Whether a branch or tag is named so."""
        refs = self.refs()
        return any(
            entry.get("name") == name for kind in ("branches", "tags") for entry in refs.get(kind) or []
        )

    def refs(self) -> dict[str, Any]:
        """What the hub lists: `branches` and `tags`."""
        content, _ = self.connection.get(f"{api_path(self.repo)}/refs")
        return content if isinstance(content, dict) else {}

    def file_url(self, commit: str, path: str) -> str:
        """Where a file's bytes are."""
        prefix = "datasets/" if self.repo.kind == "dataset" else ""
        return f"{self.connection.hub.endpoint}/{prefix}{self.repo}/resolve/{commit}/{quote(path)}"

    @property
    def _name(self) -> str:
        return f"{self.connection.hub.host}/{self.repo}"

    def _tree(self, commit: str) -> list[RemoteFile]:
        page: str | None = f"{api_path(self.repo)}/tree/{commit}?recursive=true"
        files: list[RemoteFile] = []
        while page:
            content, headers = self.connection.get(page)
            if not isinstance(content, list):
                raise RefusedError(f"{self._name}: the hub's list of files is none", _LIES)
            files += [self._file(entry) for entry in content if entry.get("type") == "file"]
            if len(files) > _MOST_FILES:
                raise RefusedError(f"{self._name}: more than {_MOST_FILES:,} files", "fetch it with git")
            page = self._next(headers.get("Link", ""))
        return files

    def _next(self, link: str) -> str | None:
        match = _NEXT.search(link)
        if match is None:
            return None
        # The hub may know itself by another name than we do; the path is what counts.
        return re.sub(r"^https?://[^/]+", "", match[1])

    def _file(self, entry: dict[str, Any]) -> RemoteFile:
        path, oid, large = entry.get("path"), entry.get("oid"), entry.get("lfs")
        digest = None
        if isinstance(large, dict):
            digest = "sha256:" + str(large.get("oid") or large.get("sha256")).removeprefix("sha256:")
        size = large.get("size", entry.get("size")) if isinstance(large, dict) else entry.get("size")
        sound = isinstance(path, str) and isinstance(oid, str) and _GIT_OID.fullmatch(oid) is not None
        sound = (
            sound
            and isinstance(size, int)
            and 0 <= size < _MOST_BYTES
            and (digest is None or is_digest(digest))
        )
        if not sound:
            raise RefusedError(f"{self._name}: {str(entry)[:200]} describes no file", _LIES)
        assert isinstance(path, str) and isinstance(oid, str) and isinstance(size, int)
        return RemoteFile(check_path(path), size, oid, digest, entry.get("damaged") is True)


def api_path(repo: RepoName) -> str:
    """Where the hub's API has a repository."""
    return f"/api/{repo.kind}s/{repo}"
