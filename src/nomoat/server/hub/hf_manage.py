"""Changing repositories: create, delete, move, settings, branches and tags."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.base.errors import InputError
from nomoat.server.hub.auth import hub_of, identity_of
from nomoat.server.hub.errors import hub_status_of
from nomoat.server.hub.hf_repos import kind_of, name_of
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.wire import base_url, path_segments, read_json
from nomoat.server.wire import json_response
from nomoat.share.errors import ConflictError
from nomoat.share.names import MAIN, RepoKind, RepoName
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.default_attributes import DEFAULT_ATTRIBUTES
from nomoat.share.registry.git_objects import blob_oid
from nomoat.share.registry.history import AddFile
from nomoat.share.registry.repos import Repo

__all__ = ["ROUTES", "repo_url"]

_BEFORE_NAME = 5  # api, models, owner, name, verb
_KINDS: dict[str, RepoKind] = {"model": "model", "dataset": "dataset"}


def repo_url(address: str, repo: Repo) -> str:
    """Where a repository's page is."""
    return f"{address}/{'datasets/' if repo.name.kind == 'dataset' else ''}{repo.name}"


async def _create(request: Request) -> Response:
    hub, who, body = hub_of(request), await identity_of(request), await read_json(request)
    who.require_known()
    name = _named(who, body)
    private = body.get("visibility") == "private" or body.get("private") is True
    try:
        repo = await hub.call(_create_with_attributes, hub, who, name, private)
    except ConflictError as error:
        repo = await hub.call(hub.repo, who, name.kind, str(name))
        content = {"error": error.message, "name": str(repo.name), "url": repo_url(base_url(request), repo)}
        return json_response(content, hub_status_of(error))
    return json_response(
        {"name": str(repo.name), "url": repo_url(base_url(request), repo), "id": f"{repo.id:024x}"}
    )


def _create_with_attributes(hub: Hub, who: Identity, name: RepoName, private: bool) -> Repo:
    """A new repository with a first commit: clients expect a branch to be there."""
    registry = hub.registry
    repo = registry.repos.create(who, name, private=private)
    info = registry.blobs.add(DEFAULT_ATTRIBUTES)
    file = AddFile(".gitattributes", info.digest, info.size_bytes, blob_oid(DEFAULT_ATTRIBUTES))
    registry.history.commit(repo, [file], who, "initial commit", parent="")
    return registry.repos.get(who, repo.name)


async def _delete(request: Request) -> Response:
    hub, who, body = hub_of(request), await identity_of(request), await read_json(request)
    who.require_known()
    name = _named(who, body)

    def delete() -> None:
        repo = hub.repo_to_write(who, name.kind, str(name))
        hub.registry.repos.delete(who, repo.name)

    await hub.call(delete)
    return json_response({})


async def _move(request: Request) -> Response:
    hub, who, body = hub_of(request), await identity_of(request), await read_json(request)
    kind = _kind(body)
    target = RepoName.parse(kind, str(body.get("toRepo", "")))

    def move() -> Repo:
        repo = hub.repo_to_write(who, kind, str(body.get("fromRepo", "")))
        return hub.registry.repos.move(who, repo.name, target)

    repo = await hub.call(move)
    return json_response({"success": True, "url": repo_url(base_url(request), repo)})


async def _settings(request: Request) -> Response:
    hub, who, body = hub_of(request), await identity_of(request), await read_json(request)
    values: dict[str, Any] = {}
    if "visibility" in body:
        values["private"] = body["visibility"] == "private"
    if isinstance(body.get("private"), bool):
        values["private"] = body["private"]
    if "gated" in body:
        values["gated"] = str(body["gated"] or "")

    def change() -> Repo:
        repo = hub.repo_to_write(who, kind_of(request), name_of(request))
        return hub.registry.repos.change(who, repo.name, **values) if values else repo

    repo = await hub.call(change)
    return json_response({"private": repo.private, "gated": repo.gated or False})


async def _create_branch(request: Request) -> Response:
    hub, who, body = hub_of(request), await identity_of(request), await read_json(request)
    branch = _last_part(request)
    revision = str(body.get("startingPoint") or MAIN)

    def create() -> None:
        repo = hub.repo_to_write(who, kind_of(request), name_of(request))
        hub.registry.history.create_branch(repo, branch, hub.commit(repo, revision).oid)

    await hub.call(create)
    return json_response({})


async def _create_tag(request: Request) -> Response:
    hub, who, body = hub_of(request), await identity_of(request), await read_json(request)
    revision = _last_part(request)

    def create() -> None:
        repo = hub.repo_to_write(who, kind_of(request), name_of(request))
        commit = hub.commit(repo, revision)
        release = body.get("immutable") is True
        hub.registry.history.create_tag(repo, str(body.get("tag", "")), commit.oid, immutable=release)

    await hub.call(create)
    return json_response({})


async def _delete_ref(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    is_tag = path_segments(request, _BEFORE_NAME - 1)[0] == "tag"

    def delete() -> None:
        repo = hub.repo_to_write(who, kind_of(request), name_of(request))
        hub.commit(repo, f"refs/{'tags' if is_tag else 'heads'}/{_last_part(request)}")
        hub.registry.history.delete_ref(repo, _last_part(request), is_tag=is_tag)

    await hub.call(delete)
    return json_response({})


def _last_part(request: Request) -> str:
    return "/".join(path_segments(request, _BEFORE_NAME))


def _kind(body: dict[str, Any]) -> RepoKind:
    kind = _KINDS.get(str(body.get("type") or "model"))
    if kind is None:
        raise InputError(f"type: {str(body['type'])[:40]!r} is not kept here", "use 'model' or 'dataset'")
    return kind


def _named(who: Identity, body: dict[str, Any]) -> RepoName:
    """The repository that a body names: `organization` is the owner, and without one it is the sender."""
    name = str(body.get("name") or "")
    owner = body.get("organization") or who.name
    return RepoName.parse(_kind(body), name if "/" in name else f"{owner}/{name}")


def _routes() -> tuple[BaseRoute, ...]:
    found: list[BaseRoute] = [
        Route("/api/repos/create", _create, methods=["POST"]),
        Route("/api/repos/delete", _delete, methods=["DELETE"]),
        Route("/api/repos/move", _move, methods=["POST"]),
    ]
    for kind in ("models", "datasets"):
        repo = f"/api/{kind}/{{owner}}/{{name}}"
        found += [
            Route(f"{repo}/settings", _settings, methods=["PUT"]),
            Route(f"{repo}/branch/{{rest:path}}", _create_branch, methods=["POST"]),
            Route(f"{repo}/branch/{{rest:path}}", _delete_ref, methods=["DELETE"]),
            Route(f"{repo}/tag/{{rest:path}}", _create_tag, methods=["POST"]),
            Route(f"{repo}/tag/{{rest:path}}", _delete_ref, methods=["DELETE"]),
        ]
    return tuple(found)


ROUTES = _routes()
