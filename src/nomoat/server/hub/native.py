"""What only this hub says: files by their digest, checksums of blocks, lineage, signatures, takedowns, health."""

from __future__ import annotations

from typing import Any

import blake3
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat import __version__
from nomoat.base.errors import InputError, NotFoundError
from nomoat.server.hub.auth import hub_of, identity_of
from nomoat.server.hub.hf_repos import kind_of, name_of
from nomoat.server.hub.hub import Hub
from nomoat.server.wire import json_response
from nomoat.share.blobs.patch import MOST_SMALL_BYTES, SMALL_BLOCK_BYTES
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.names import MAIN, RepoName, check_digest
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.repos import Repo
from nomoat.share.xet.chunk_index import index_of, write_index

__all__ = ["ROUTES"]

_MOST_RECALLS = 1000


async def _health(request: Request) -> Response:
    return json_response({"status": "ok", "version": __version__, "started": hub_of(request).started})


async def _blob(request: Request) -> Response:
    """Where the file of a digest is, for somebody who may read it there."""
    hub, who = hub_of(request), await identity_of(request)
    digest = check_digest(request.path_params["digest"])
    return json_response(await hub.call(_blob_json, hub, who, digest))


def _blob_json(hub: Hub, who: Identity, digest: str) -> dict[str, Any]:
    hub.registry.takedowns.require_served(digest)
    info = hub.registry.blobs.known(digest)
    places = [
        place
        for name in hub.registry.claims.repos_with(who, digest)
        for place in _places(hub, who, name, digest)
    ]
    if info is None or not places:
        raise NotFoundError(f"{digest} is in no repository that you may read", "check the digest, or log in")
    facts = hub.registry.blobs.facts(digest) or {}
    made = hub.registry.lineage.children_of_digest(who, digest)
    return {"digest": digest, "size": info.size_bytes, "facts": facts, "repos": places,
            "children": [{"repo": str(repo.name), "kind": repo.name.kind, "relation": edge.relation,
                          "state": edge.state} for repo, edge in made]}  # fmt: skip


def _places(hub: Hub, who: Identity, name: RepoName, digest: str) -> list[dict[str, str]]:
    """Paths of the file at the head of a repository; one that it had before is named without a path."""
    repo = hub.registry.repos.get(who, name)
    files = hub.registry.history.files(hub.registry.history.resolve(repo, repo.head)) if repo.head else []
    paths = [entry.path for entry in files if entry.digest == digest]
    return [{"kind": name.kind, "repo": str(repo.name), "path": path} for path in paths or [""]]


def _require_readable(hub: Hub, who: Identity, digest: str) -> None:
    """Raise where `who` may not read the blob in any repository."""
    hub.registry.takedowns.require_served(digest)
    if not hub.registry.claims.repos_with(who, digest, 1):
        raise NotFoundError(f"{digest} is in no repository that you may read", "check the digest, or log in")


async def _sums(request: Request) -> Response:
    """BLAKE3 of each block: who fetches blocks from several places can check each of them.

    With `start` and `end`, of each small block in that range: who sends a new version finds the place that changed.
    """
    hub, who = hub_of(request), await identity_of(request)
    digest = check_digest(request.path_params["digest"])
    span = [request.query_params.get(name, "0") for name in ("start", "end")]
    start, end = (int(each) if each.isdigit() and len(each) < 19 else 0 for each in span)

    def read() -> bytes:
        _require_readable(hub, who, digest)
        return _small_sums(hub, digest, start, end) if end else hub.registry.store.sums(digest)

    size = SMALL_BLOCK_BYTES if end else BLOCK_BYTES
    headers = {"X-Block-Bytes": str(size), "Cache-Control": "private, max-age=86400"}
    return Response(await hub.read(read), 200, headers, "application/octet-stream")


def _small_sums(hub: Hub, digest: str, start: int, end: int) -> bytes:
    if not 0 < end - start <= MOST_SMALL_BYTES:
        raise InputError(
            f"{start} to {end} is no range of at most {MOST_SMALL_BYTES:,} bytes", "ask for less"
        )
    with hub.registry.blobs.open(digest) as reader:
        reader.seek(start)
        content = memoryview(reader.read(end - start))
    places = range(0, len(content), SMALL_BLOCK_BYTES)
    return b"".join(blake3.blake3(content[at : at + SMALL_BLOCK_BYTES]).digest() for at in places)


async def _chunks(request: Request) -> Response:
    """Where content itself cuts the file: who has another version fetches by ranges what differs."""
    hub, who = hub_of(request), await identity_of(request)
    digest = check_digest(request.path_params["digest"])

    def read() -> bytes:
        _require_readable(hub, who, digest)
        return write_index(index_of(hub.registry, digest))

    headers = {"Cache-Control": "private, max-age=86400"}
    return Response(await hub.read(read), 200, headers, "application/octet-stream")


async def _lineage(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)

    def read() -> dict[str, Any]:
        return hub.registry.lineage.graph(who, _repo(hub, who, request)).as_json()

    return json_response(await hub.call(read))


async def _trust(request: Request) -> Response:
    """Who vouches for the files of a revision."""
    hub, who = hub_of(request), await identity_of(request)
    revision = request.query_params.get("revision", MAIN)

    def read() -> dict[str, Any]:
        repo = _repo(hub, who, request)
        commit = hub.commit(repo, revision)
        return {"commit": commit.oid, "signature": hub.registry.vouching.verification(repo, commit).as_json()}

    return json_response(await hub.call(read))


async def _recalls(request: Request) -> Response:
    """Signed takedowns and restores, and the key that they are signed with, for hubs that follow this one."""
    hub = hub_of(request)
    since = request.query_params.get("since", "0")
    found = await hub.call(
        hub.registry.takedowns.recalls, int(since) if since.isdigit() else 0, _MOST_RECALLS
    )
    key = await hub.call(lambda: hub.registry.events.key.public.pem)
    return json_response({"recalls": [recall.as_json() for recall in found], "public_key": key})


def _repo(hub: Hub, who: Identity, request: Request) -> Repo:
    return hub.repo(who, kind_of(request), name_of(request))


def _routes() -> tuple[BaseRoute, ...]:
    found: list[BaseRoute] = [
        Route("/health", _health),
        Route("/api/nomoat/recalls", _recalls),
        Route("/api/nomoat/blobs/{digest}", _blob),
        Route("/api/nomoat/blobs/{digest}/sums", _sums),
        Route("/api/nomoat/blobs/{digest}/chunks", _chunks),
    ]
    for kind in ("models", "datasets"):
        repo = f"/api/{kind}/{{owner}}/{{name}}"
        found += [Route(f"{repo}/lineage", _lineage), Route(f"{repo}/trust", _trust)]
    return tuple(found)


ROUTES = _routes()
