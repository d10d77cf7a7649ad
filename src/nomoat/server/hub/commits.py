"""A commit as clients send it, in lines of JSON, and its way into the registry."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nomoat.base.digests import sha256_bytes
from nomoat.base.errors import InputError
from nomoat.server.errors import HttpProblem
from nomoat.server.hub.errors import HubProblem
from nomoat.server.hub.hub import Hub
from nomoat.share.errors import ConflictError, RefusedError
from nomoat.share.names import MAIN, check_path, is_commit, is_digest
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.git_objects import blob_oid, lfs_pointer
from nomoat.share.registry.history import AddFile, Commit, CopyFile, DeletePath, Operation
from nomoat.share.registry.inspection import RefusedFileError, inspect_files
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.upkeep.refused import drop_refused

__all__ = ["CommitRequest", "LargeFile", "SmallFile", "apply_commit", "parse_commit"]

_MOST_LINES = 100_000


@dataclass(frozen=True)
class SmallFile:
    """A file that came inside the commit."""

    path: str
    content: bytes


@dataclass(frozen=True)
class LargeFile:
    """A file that was sent before; `size_bytes` is None where the client did not say."""

    path: str
    digest: str
    size_bytes: int | None


@dataclass
class CommitRequest:
    """What a client wants to commit. `parent` is where it believes the branch to be; None: it does not mind."""

    title: str = ""
    message: str = ""
    parent: str | None = None
    operations: list[SmallFile | LargeFile | DeletePath | CopyFile] = field(default_factory=list)


def parse_commit(content: bytes, most_bytes_of_file: int) -> CommitRequest:
    """Read the lines `{"key", "value"}`. Raises `HttpProblem` and `InputError` for what cannot be."""
    lines = [line for line in content.split(b"\n") if line.strip()]
    if len(lines) > _MOST_LINES:
        raise HttpProblem("too_large", f"more than {_MOST_LINES:,} changes at once", "make several commits")
    found = CommitRequest()
    for number, line in enumerate(lines, 1):
        try:
            item = msgspec.json.decode(line)
            key, value = item["key"], item["value"]
            _take(found, key, value, most_bytes_of_file)
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise HttpProblem(
                "bad_input", f"line {number} of the commit is not {{key, value}} as it should be"
            ) from error
    return found


def _take(found: CommitRequest, key: str, value: dict[str, Any], most_bytes_of_file: int) -> None:
    if key == "header":
        found.title, found.message = str(value["summary"]), str(value.get("description") or "")
        found.parent = str(value["parentCommit"]) if value.get("parentCommit") is not None else None
        return
    path = check_path(str(value["path"]).rstrip("/"))
    if key == "file":
        content = _content(value)
        if len(content) > most_bytes_of_file:
            raise HttpProblem(
                "too_large", f"{path}: too large to be inside a commit", "send it as a large file (LFS)"
            )
        found.operations.append(SmallFile(path, content))
    elif key == "lfsFile":
        size = value.get("size")
        found.operations.append(
            LargeFile(path, f"sha256:{value['oid']}", size if isinstance(size, int) else None)
        )
    elif key in {"deletedFile", "deletedFolder"}:
        found.operations.append(DeletePath(path))
    elif key == "copyFile":
        found.operations.append(CopyFile(path, str(value["srcPath"]), value.get("srcRevision")))
    else:
        raise HttpProblem("bad_input", f"{str(key)[:40]!r} is no change that this hub knows")


def _content(value: dict[str, Any]) -> bytes:
    if value.get("encoding", "utf-8") == "base64":
        return base64.b64decode(value["content"], validate=True)
    return str(value["content"]).encode()


def apply_commit(hub: Hub, who: Identity, repo: Repo, branch: str, asked: CommitRequest) -> Commit:
    """Inspect, store, commit. Nothing becomes visible unless all of it may; nothing is kept of what was refused."""
    registry = hub.registry
    if branch != MAIN:  # which the first commit makes
        hub.commit(repo, f"refs/heads/{branch}")
    parent = _parent(hub, repo, branch, asked.parent)
    operations = [_operation(hub, who, each) for each in asked.operations]
    files = [each for each in operations if isinstance(each, AddFile)]
    small = {
        made.digest: each.content
        for each, made in zip(asked.operations, operations, strict=True)
        if isinstance(each, SmallFile) and isinstance(made, AddFile)
    }
    facts = _inspected(hub, who, files, small)
    for content in small.values():
        registry.blobs.add(content)
    for digest, found in facts.items():
        registry.blobs.set_facts(digest, found)
    try:
        made = registry.history.commit(
            repo, operations, who, asked.title, asked.message, branch=branch, parent=parent
        )
    except ConflictError as error:
        raise HubProblem.of(error, "", 412) from error
    return made


def _inspected(
    hub: Hub, who: Identity, files: list[AddFile], small: dict[str, bytes]
) -> dict[str, dict[str, Any]]:
    registry = hub.registry
    try:
        return inspect_files(registry.inspection, registry.blobs, files, small)
    except RefusedFileError as error:
        if error.digest not in small:
            drop_refused(registry, who.user_id, error.digest)
        raise


def _operation(hub: Hub, who: Identity, asked: SmallFile | LargeFile | DeletePath | CopyFile) -> Operation:
    if isinstance(asked, SmallFile):
        return AddFile(asked.path, sha256_bytes(asked.content), len(asked.content), blob_oid(asked.content))
    if isinstance(asked, LargeFile):
        if not is_digest(asked.digest):
            raise InputError(f"{asked.path}: its oid is no sha256", "give 64 hex digits")
        held = hub.registry.claims.held(who, asked.digest)
        if held is None or asked.size_bytes not in {None, held.size_bytes}:
            raise RefusedError(
                f"{asked.path}: {asked.digest} was never sent", "upload the file before the commit"
            )
        pointer = lfs_pointer(asked.digest, held.size_bytes)
        return AddFile(asked.path, asked.digest, held.size_bytes, blob_oid(pointer), lfs=True)
    return asked


def _parent(hub: Hub, repo: Repo, branch: str, given: str | None) -> str | None:
    """The full id of the parent that the client named; the first letters of it are enough."""
    if given is None or is_commit(given) or len(given) < 7:
        return given
    head = hub.commit(repo, branch).oid
    return head if head.startswith(given.lower()) else given
