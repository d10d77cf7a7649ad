"""A mirror: public repositories of another hub, fetched and verified into this one, and its takedowns honoured.

    mirror = Mirror(registry, connection, who, progress)
    mirror.follow_recalls()
    mirror.refresh(RepoName.parse("model", "ada/notes"))

The newest version of `main` is taken over, with its signature and provenance. The owner gets an account here with the
key that the origin knows, but no token: what was verified there can be verified here, and nobody becomes somebody.
Run again, it fetches what changed; interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import delete, insert, select

from nomoat.base.errors import NotFoundError
from nomoat.base.progress import Progress, Silent
from nomoat.share.client.connection import Connection
from nomoat.share.client.download import Download, Transfer, fetched
from nomoat.share.client.ranges import RangeSource
from nomoat.share.client.remote import RemoteFile, RemoteRepo, Snapshot, api_path
from nomoat.share.errors import ForbiddenError, RefusedError, TakenDownError
from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.git_objects import blob_oid, lfs_pointer
from nomoat.share.registry.history import AddFile, DeletePath, Operation
from nomoat.share.registry.inspection import RefusedFileError, inspect_files
from nomoat.share.registry.moderation.recalls import Honoured, honour_recalls
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.schema import properties
from nomoat.share.registry.trees import Entry
from nomoat.share.registry.upkeep.refused import drop_refused
from nomoat.share.trust.keys import PublicKey

__all__ = ["Mirror", "Mirrored"]

_AT_ONCE = 64  # files in one go: each holds two handles open
_BLOCK_BYTES = 4 << 20
Outcome = Literal["mirrored", "unchanged", "taken down", "gone", "refused"]


@dataclass(frozen=True)
class Mirrored:
    """What came of one repository. `origin_commit` is the version there; `commit` is the same version here.

    `gone`: the origin has it no more, or not for everybody; what is here stays.
    """

    name: str
    outcome: Outcome
    origin_commit: str = ""
    commit: str = ""
    files: int = 0
    fetched_bytes: int = 0
    why: str = ""


class Mirror:
    """Follows one hub. `who` runs this one."""

    def __init__(
        self, registry: Registry, connection: Connection, who: Identity, progress: Progress | None = None,
        transfer: Transfer | None = None,
    ) -> None:  # fmt: skip
        who.require_admin()
        self._transfer = transfer or Transfer()
        self._registry, self._connection, self._who = registry, connection, who
        self._progress = progress or Silent()
        self._host = connection.hub.host

    def follow_recalls(self) -> Honoured:
        """Take down and restore what the origin did since the last time. A hub that tells nothing has nothing to say.

        Raises `RefusedError` where the origin signs with another key than at first.
        """
        known = self._note("")
        key_text, since = str(known.get("public_key", "")), int(known.get("since", 0))
        taken: list[str] = []
        restored: list[str] = []
        skipped: list[tuple[str, str]] = []
        while True:
            content = self._recalls(since)
            entries = content.get("recalls")
            if not isinstance(entries, list) or not entries:
                return Honoured(tuple(taken), tuple(restored), tuple(skipped))
            if not all(isinstance(entry, dict) for entry in entries):
                raise RefusedError(
                    f"{self._host}: its list of takedowns is none", "ask whoever runs that hub"
                )
            key_text = self._same_key(key_text, str(content.get("public_key", "")))
            done = honour_recalls(self._registry, entries, PublicKey.parse(key_text))
            taken += done.taken_down
            restored += done.restored
            skipped += done.skipped
            before, since = since, max((_number(entry, "seq") for entry in entries), default=0)
            if since <= before:
                raise RefusedError(
                    f"{self._host}: its list of takedowns has no order", "ask whoever runs that hub"
                )
            self._keep("", {"public_key": key_text, "since": since})

    def refresh(self, name: RepoName) -> Mirrored:
        """Bring the newest version of a repository here.

        Raises `RefusedError` where this hub has a repository of that name of its own, or where a file may not be
        here; `ForbiddenError` where the origin does not show it to everybody.
        """
        remote = RemoteRepo(self._connection, name)
        try:
            snapshot = remote.snapshot()
        except TakenDownError as error:
            return Mirrored(str(name), "taken down", why=error.message)
        except NotFoundError as error:
            return Mirrored(str(name), "gone", why=error.message)
        if snapshot.info.get("private") or snapshot.info.get("gated"):
            raise ForbiddenError(
                f"{self._host}/{name} is not for everybody", "mirror public repositories only"
            )
        repo = self._own_copy(name)
        if repo is not None and repo.taken_down:
            return Mirrored(str(name), "taken down", snapshot.commit, why="it is taken down here")
        if repo is not None and self._note(name.key).get("commit") == snapshot.commit:
            return Mirrored(str(name), "unchanged", snapshot.commit, repo.head or "")
        return self._take_over(remote, snapshot, repo)

    def _recalls(self, since: int) -> dict[str, Any]:
        try:
            content, _ = self._connection.get("/api/nomoat/recalls", {"since": since})
        except NotFoundError:
            return {}
        return content if isinstance(content, dict) else {}

    def _same_key(self, known: str, told: str) -> str:
        if known and known != told:
            raise RefusedError(f"{self._host} signs its takedowns with another key than before",
                               "ask whoever runs that hub, then begin a new mirror")  # fmt: skip
        return told

    def _own_copy(self, name: RepoName) -> Repo | None:
        """The repository here; None where it is new. Raises `RefusedError` where it is no mirror."""
        try:
            repo = self._registry.repos.get(self._who, name)
        except NotFoundError:
            return None
        if not self._note(name.key):
            raise RefusedError(f"{name} is this hub's own, no mirror of {self._host}",
                               "mirror it on another hub")  # fmt: skip
        return repo

    def _new_copy(self, remote: RemoteRepo) -> Repo:
        self._meet_owner(remote)
        repo = self._registry.repos.create(self._who, remote.repo)
        self._keep(remote.repo.key, {"commit": ""})
        return repo

    def _meet_owner(self, remote: RemoteRepo) -> None:
        """An account with the key by which the origin knows the owner; one that is here already keeps its own."""
        accounts, owner = self._registry.accounts, remote.repo.owner
        if accounts.find(owner) is not None:
            return
        key = self._key_of(remote)  # first: an account without it would never get it
        accounts.add(owner, full_name=f"{owner} of {self._host}")
        if key is not None:
            accounts.change(owner, public_key=key.pem)

    def _key_of(self, remote: RemoteRepo) -> PublicKey | None:
        try:
            content, _ = self._connection.get(f"{api_path(remote.repo)}/keys")
        except NotFoundError:
            return None
        keys = content.get("keys") if isinstance(content, dict) else None
        for entry in keys if isinstance(keys, list) else []:
            if isinstance(entry, dict) and str(entry.get("name")).lower() == remote.repo.owner.lower():
                return PublicKey.parse(str(entry.get("public_key")))
        return None

    def _take_over(self, remote: RemoteRepo, snapshot: Snapshot, repo: Repo | None) -> Mirrored:
        """Fetch, verify and inspect; only then make the repository where it is new, and commit."""
        here = self._files(repo)
        changed = [file for file in snapshot.files if not _is_same(file, here.get(file.path))]
        added: list[AddFile] = []
        count = 0
        for start in range(0, len(changed), _AT_ONCE):
            part = changed[start : start + _AT_ONCE]
            wanted = [self._download(remote, snapshot, file) for file in part]
            with fetched(wanted, self._transfer, self._progress, f"Mirroring {remote.repo}") as n_bytes:
                added += [self._add(item) for item in wanted]
            count += n_bytes
        self._inspect(added)
        left = here.keys() - {file.path for file in snapshot.files}
        operations: Sequence[Operation] = [*map(DeletePath, sorted(left)), *added]
        repo = repo or self._new_copy(remote)
        commit = repo.head or ""
        if operations:
            title = f"Mirror {self._host} at {snapshot.commit[:12]}"
            commit = self._registry.history.commit(
                repo, operations, self._who, title, parent=repo.head or ""
            ).oid
        self._keep(remote.repo.key, {"commit": snapshot.commit})
        return Mirrored(str(remote.repo), "mirrored", snapshot.commit, commit, len(changed), count)

    def _inspect(self, added: Sequence[AddFile]) -> None:
        """Look into the files as if somebody had pushed them; nothing is kept of one that is refused."""
        blobs = self._registry.blobs
        try:
            facts = inspect_files(self._registry.inspection, blobs, added, {})
        except RefusedFileError as error:
            drop_refused(self._registry, self._who.user_id, error.digest)
            raise
        for digest, found in facts.items():
            blobs.set_facts(digest, found)

    def _files(self, repo: Repo | None) -> dict[str, Entry]:
        """What the copy has now, by path."""
        if repo is None or repo.head is None:
            return {}
        history = self._registry.history
        return {each.path: each for each in history.files(history.resolve(repo)) if each.is_file}

    def _download(self, remote: RemoteRepo, snapshot: Snapshot, file: RemoteFile) -> Download:
        source = RangeSource(self._connection, remote.file_url(snapshot.commit, file.path), file)
        return Download(file, source, self._folder / file.key)

    @property
    def _folder(self) -> Path:
        """Where files come together."""
        return self._registry.config.root / "mirroring"

    def _add(self, item: Download) -> AddFile:
        """Take a fetched and verified file among this hub's own."""
        file = item.file
        with item.path.open("rb") as handle, self._registry.blobs.incoming() as (incoming, finish):
            while block := handle.read(_BLOCK_BYTES):
                incoming.write(block)
            info = finish(file.digest, file.size_bytes)
        if file.digest is None:
            return AddFile(file.path, info.digest, info.size_bytes, file.git_oid)
        pointer = lfs_pointer(info.digest, info.size_bytes)
        return AddFile(file.path, info.digest, info.size_bytes, blob_oid(pointer), lfs=True)

    def _note(self, key: str) -> dict[str, Any]:
        """What was noted of the origin (empty key), or of one of its repositories; empty where nothing was."""
        with self._registry.database.read() as connection:
            value = connection.scalar(select(properties.c.value).where(properties.c.name == self._name(key)))
        return dict(json.loads(value)) if value else {}

    def _keep(self, key: str, content: dict[str, Any]) -> None:
        with self._registry.database.write() as connection:
            connection.execute(delete(properties).where(properties.c.name == self._name(key)))
            row = {"name": self._name(key), "value": json.dumps(content)}
            connection.execute(insert(properties).values(row))

    def _name(self, key: str) -> str:
        return f"mirror:{hashlib.sha256(f'{self._host} {key}'.encode()).hexdigest()[:48]}"


def _is_same(file: RemoteFile, here: Entry | None) -> bool:
    """Whether this very repository has the file already. Elsewhere on this hub it may be somebody's secret."""
    if here is None or here.size_bytes != file.size_bytes:
        return False
    return here.digest == file.digest if file.digest else here.oid == file.git_oid


def _number(entry: Any, name: str) -> int:
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if isinstance(value, int) else 0
