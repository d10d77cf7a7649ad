"""Commits: what a client asks before one (`preupload`), and the commit itself."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.base.errors import InputError, NotFoundError
from nomoat.server.errors import HttpProblem
from nomoat.server.hub.auth import hub_of, identity_of
from nomoat.server.hub.commits import CommitRequest, apply_commit, parse_commit
from nomoat.server.hub.hf_manage import repo_url
from nomoat.server.hub.hf_repos import kind_of, name_of
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.wire import base_url, flag, path_segments, read_content, read_json, split_revision
from nomoat.server.wire import json_response
from nomoat.share.errors import DamagedBlobError, RefusedError
from nomoat.share.registry.card import read_card
from nomoat.share.registry.default_attributes import ignored_by, is_binary_name, is_large
from nomoat.share.registry.history import Commit
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.trees import Entry

__all__ = ["ROUTES"]

_BEFORE_REVISION = 5
_MOST_ATTRIBUTES_BYTES = 1 << 20


async def _preupload(request: Request) -> Response:
    hub, who, body = hub_of(request), await identity_of(request), await read_json(request)
    branch = _branch(request)
    files = body.get("files")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise HttpProblem("bad_input", "files: give a list of {path, sample, size}")

    def decided() -> list[dict[str, Any]]:
        repo = hub.repo_to_write(who, kind_of(request), name_of(request))
        known = _files_of(hub, repo, branch)
        attributes = body.get("gitAttributes") or _text_of(hub, known.get(".gitattributes"))
        ignore = body.get("gitIgnore") or _text_of(hub, known.get(".gitignore"))
        ignored = ignored_by([str(file.get("path")) for file in files], str(ignore))
        there = _shown_oids(hub, [known[str(f.get("path"))] for f in files if str(f.get("path")) in known])
        return [_mode(hub, file, str(attributes), ignored, there) for file in files]

    return json_response({"files": await hub.call(decided)})


def _mode(
    hub: Hub, file: dict[str, Any], attributes: str, ignored: set[str], there: dict[str, str]
) -> dict[str, Any]:
    path, size = str(file.get("path", "")), file.get("size", 0)
    large = is_large(path, attributes)
    if large is None or not large:
        sample = _decoded(str(file.get("sample", "")))
        large = large is None and (is_binary_name(path) or not _is_text(sample))
        large = large or not isinstance(size, int) or size > hub.config.limits.regular_bytes
    return {"path": path, "uploadMode": "lfs" if large and size else "regular", "shouldIgnore": path in ignored,
            "oid": there.get(path)}  # fmt: skip


def _shown_oids(hub: Hub, entries: list[Entry]) -> dict[str, str]:
    """By path, that by which clients see that a file is the same: git's id, of a large file its sha256.

    Damaged files are left out: their bytes shall come again.
    """
    damaged = hub.registry.blobs.damaged_among([entry.digest or "" for entry in entries])
    return {
        entry.path: (entry.digest or "").removeprefix("sha256:") if entry.lfs else entry.oid
        for entry in entries
        if entry.digest not in damaged
    }


def _is_text(sample: bytes) -> bool:
    """Whether it is UTF-8; its last letter may be cut."""
    if b"\0" in sample:
        return False
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(sample) - 3 and error.reason == "unexpected end of data"
    return True


def _files_of(hub: Hub, repo: Repo, branch: str) -> dict[str, Entry]:
    try:
        commit = hub.registry.history.resolve(repo, branch)
    except NotFoundError:
        return {}
    return {entry.path: entry for entry in hub.registry.history.files(commit) if entry.is_file}


def _text_of(hub: Hub, entry: Entry | None) -> str:
    """Empty where it cannot be read: a damaged one must not keep away what mends it."""
    if entry is None or not entry.digest or entry.size_bytes > _MOST_ATTRIBUTES_BYTES:
        return ""
    try:
        with hub.registry.blobs.open(entry.digest) as reader:
            return reader.read().decode("utf-8", "replace")
    except (DamagedBlobError, NotFoundError):
        return ""


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error as error:
        raise HttpProblem("bad_input", "a sample is no base64") from error


async def _commit(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    who.require_known()
    if flag(request.query_params.get("create_pr")):
        raise HttpProblem(
            "not_implemented", "this hub takes no pull requests", "commit to a branch of your own"
        )
    branch = _branch(request)
    await hub.call(hub.repo_to_write, who, kind_of(request), name_of(request))  # before its body is read
    content = await read_content(request, hub.config.limits.commit_bytes)

    def commit() -> tuple[Repo, Commit]:
        repo = hub.repo_to_write(who, kind_of(request), name_of(request))
        asked: CommitRequest = parse_commit(content, hub.config.limits.regular_bytes)
        return repo, apply_commit(hub, who, repo, branch, asked)

    repo, made = await hub.call(commit)
    url = f"{repo_url(base_url(request), repo)}/commit/{made.oid}"
    return json_response({"success": True, "commitUrl": url, "commitOid": made.oid, "hookOutput": ""})


def _branch(request: Request) -> str:
    revision, _ = split_revision(path_segments(request, _BEFORE_REVISION))
    branch = revision.removeprefix("refs/heads/")
    if branch.startswith("refs/"):
        raise InputError(f"{revision[:80]!r} is no branch", "commit to a branch")
    return branch


async def _validate_yaml(request: Request) -> Response:
    await identity_of(request)
    body = await read_json(request)
    try:
        card = read_card(str(body.get("content", "")))
    except RefusedError as error:
        return json_response({"errors": [{"message": error.message}], "warnings": []}, 400)
    missing = (
        []
        if card.data
        else [{"message": "the card has no front matter: nobody will find it by tags or licence"}]
    )
    return json_response({"errors": [], "warnings": missing})


def _routes() -> tuple[BaseRoute, ...]:
    found: list[BaseRoute] = [Route("/api/validate-yaml", _validate_yaml, methods=["POST"])]
    for kind in ("models", "datasets"):
        repo = f"/api/{kind}/{{owner}}/{{name}}"
        found += [
            Route(f"{repo}/preupload/{{rest:path}}", _preupload, methods=["POST"]),
            Route(f"{repo}/commit/{{rest:path}}", _commit, methods=["POST"]),
        ]
    return tuple(found)


ROUTES = _routes()
