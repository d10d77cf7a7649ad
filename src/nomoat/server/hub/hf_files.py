"""Downloads: `/owner/name/resolve/revision/path`, whole or in ranges, checked block by block on the way out."""

from __future__ import annotations

import mimetypes

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.server.hub.auth import hub_of, identity_of
from nomoat.server.hub.blob_response import BlobResponse, Range, asked_range
from nomoat.server.hub.errors import HubProblem
from nomoat.server.hub.hf_repos import kind_of, name_of
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.wire import path_segments, split_revision
from nomoat.share.blobs.store import attachment
from nomoat.share.names import RepoKind
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.git_objects import lfs_pointer
from nomoat.share.registry.history import Commit
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.trees import Entry

__all__ = ["ROUTES", "etag_of", "file_headers"]

# What a browser may show by itself; everything else is bytes to be saved.
_SHOWN = {"image/png", "image/jpeg", "image/webp", "image/gif", "audio/mpeg", "audio/wav", "video/mp4"}
_TEXT = {
    "application/json",
    "text/plain",
    "text/markdown",
    "text/csv",
    "application/x-yaml",
    "application/yaml",
}
_URL_SECONDS = 3600
_FEWEST_BYTES_OF_A_DOWNLOAD = 10_000_000  # with config.json, what Hugging Face counts as one, too


async def _resolve(request: Request) -> Response:
    hub = hub_of(request)
    repo, commit, entry = await _asked_file(request)
    headers = file_headers(commit, entry)
    if request.headers.get("if-none-match", "").strip() in {headers["ETag"], "*"}:
        return Response(status_code=304, headers=headers)
    asked = asked_range(request, entry.size_bytes, headers["ETag"])
    digest = entry.digest or ""
    if request.method == "GET" and (asked is None or asked.start == 0):
        _count(hub, repo, entry)
    # A store signs for GET or for HEAD, and a small file is not worth another connection.
    if hub.config.redirects and entry.lfs and request.method == "GET":
        name = entry.path.rpartition("/")[2]
        if address := await hub.call(hub.registry.store.url, digest, name, _URL_SECONDS):
            return Response(status_code=302, headers={**headers, "Location": address})
    return BlobResponse(
        hub, digest, asked or Range(0, entry.size_bytes, entry.size_bytes, partial=False), headers
    )


async def _raw(request: Request) -> Response:
    """The file as git has it: of a large one, its pointer."""
    hub = hub_of(request)
    _, commit, entry = await _asked_file(request)
    pointer = lfs_pointer(entry.digest or "", entry.size_bytes) if entry.lfs else b""
    size = len(pointer) if entry.lfs else entry.size_bytes
    headers = {**file_headers(commit, entry), "ETag": f'"{entry.oid}"', "X-Linked-Etag": f'"{entry.oid}"',
               "X-Linked-Size": str(size)}  # fmt: skip
    asked = asked_range(request, size, headers["ETag"]) or Range(0, size, size, partial=False)
    if not entry.lfs:
        return BlobResponse(hub, entry.digest or "", asked, headers)
    part = pointer[asked.start : asked.stop]
    return Response(part, 206 if asked.partial else 200, {**headers, **asked.headers})


async def _asked_file(request: Request) -> tuple[Repo, Commit, Entry]:
    hub, who = hub_of(request), await identity_of(request)
    skip = 4 if kind_of(request) == "dataset" else 3
    revision, path = split_revision(path_segments(request, skip))
    return await hub.call(_find, hub, who, kind_of(request), name_of(request), revision, path)


def _find(
    hub: Hub, who: Identity, kind: RepoKind, name: str, revision: str, path: str
) -> tuple[Repo, Commit, Entry]:
    repo = hub.repo_to_download(who, kind, name)
    commit = hub.commit(repo, revision)
    try:
        entry = hub.file(commit, path)
        hub.registry.takedowns.require_served(entry.digest or "")
        return repo, commit, entry
    except HubProblem as error:
        error.headers["X-Repo-Commit"] = commit.oid  # by which clients remember that the file is not there
        raise


def file_headers(commit: Commit, entry: Entry) -> dict[str, str]:
    """What describes a file, in an answer with or without its bytes."""
    etag = etag_of(entry)
    return {
        "X-Repo-Commit": commit.oid,
        "ETag": etag,
        "X-Linked-Etag": etag,
        "X-Linked-Size": str(entry.size_bytes),
        "Accept-Ranges": "bytes",
        "Content-Type": _content_type(entry.path),
        "Content-Disposition": attachment(entry.path.rpartition("/")[2]),
        # What users put here never runs as a page of this hub.
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "Cache-Control": "private, no-cache",
    }


def etag_of(entry: Entry) -> str:
    """sha256 of a large file, git's id of another one, in quotes."""
    return f'"{(entry.digest or "").removeprefix("sha256:") if entry.lfs else entry.oid}"'


def _count(hub: Hub, repo: Repo, entry: Entry) -> None:
    if entry.size_bytes >= _FEWEST_BYTES_OF_A_DOWNLOAD or entry.path in {
        "config.json",
        "adapter_config.json",
    }:
        hub.downloads.note(repo)


def _content_type(path: str) -> str:
    kind = mimetypes.guess_type(path)[0] or ""
    if kind in _SHOWN:
        return kind
    return "text/plain; charset=utf-8" if kind in _TEXT else "application/octet-stream"


def _routes() -> tuple[BaseRoute, ...]:
    found: list[BaseRoute] = []
    for repo in ("/datasets/{owner}/{name}", "/{owner}/{name}"):
        found.append(Route(f"{repo}/resolve/{{rest:path}}", _resolve, methods=["GET"]))
        found.append(Route(f"{repo}/raw/{{rest:path}}", _raw, methods=["GET"]))
    return tuple(found)


ROUTES = _routes()
