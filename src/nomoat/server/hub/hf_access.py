"""Likes, and access to gated repositories: asked for, listed, granted, refused."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.base.errors import InputError
from nomoat.server.hub.auth import hub_of, identity_of
from nomoat.server.hub.hf_repos import kind_of, name_of
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.wire import iso_time, read_json
from nomoat.server.wire import json_response
from nomoat.share.registry.relations import AccessRequest, AccessStatus

__all__ = ["ROUTES"]

_STATES: dict[str, AccessStatus] = {"pending": "pending", "accepted": "accepted", "rejected": "rejected"}


async def _like(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    who.require_known()

    def like() -> None:
        repo = hub.repo(who, kind_of(request), name_of(request))
        hub.registry.repos.like(who, repo.name, request.method == "POST")

    await hub.call(like)
    return json_response({})


async def _likers(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)

    def listed() -> list[dict[str, str]]:
        repo = hub.repo(who, kind_of(request), name_of(request))
        return [
            {"user": name, "fullname": full or name, "avatarUrl": ""}
            for name, full in hub.registry.relations.likers(repo)
        ]

    return json_response(await hub.call(listed))


async def _liked(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)

    def listed() -> list[dict[str, Any]]:
        account = hub.registry.accounts.get(request.path_params["name"])
        found = hub.registry.relations.liked_by(account.id, who)
        return [{"createdAt": iso_time(liked), "repo": {"name": str(repo.name), "type": repo.name.kind}}
                for repo, liked in found]  # fmt: skip

    return json_response(await hub.call(listed))


async def _ask(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)

    def ask() -> str:
        repo = hub.repo(who, kind_of(request), name_of(request))
        return hub.registry.repos.ask_for_access(who, repo.name)

    return json_response({"status": await hub.call(ask)})


async def _requests(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    status = _status(request.path_params["status"])

    def listed() -> list[dict[str, Any]]:
        repo = hub.repo_to_write(who, kind_of(request), name_of(request))
        return [_request_json(each) for each in hub.registry.relations.access_requests(repo, status)]

    return json_response(await hub.call(listed))


def _request_json(asked: AccessRequest) -> dict[str, Any]:
    return {
        "requestId": f"{asked.user_id:024x}", "status": asked.status, "timestamp": iso_time(asked.created_ms),
        "user": {"user": asked.user, "fullname": asked.full_name or asked.user, "email": "", "type": "user"},
    }  # fmt: skip


async def _handle(request: Request) -> Response:
    hub, who, body = hub_of(request), await identity_of(request), await read_json(request)
    status = _status(body.get("status"))

    def handle() -> None:
        repo = hub.repo_to_write(who, kind_of(request), name_of(request))
        user = _user(hub, body)
        if status == "pending":
            hub.registry.relations.forget_access(repo, hub.registry.accounts.get(user).id)
        else:
            hub.registry.repos.decide_access(who, repo.name, user, status == "accepted")

    await hub.call(handle)
    return json_response({})


async def _grant(request: Request) -> Response:
    hub, who, body = hub_of(request), await identity_of(request), await read_json(request)

    def grant() -> None:
        repo = hub.repo_to_write(who, kind_of(request), name_of(request))
        if not repo.gated:
            raise InputError(f"{repo.name} is not gated", "anybody may download it")
        hub.registry.repos.decide_access(who, repo.name, _user(hub, body), True)

    await hub.call(grant)
    return json_response({})


def _user(hub: Hub, body: dict[str, Any]) -> str:
    """A body names somebody, or the number of the request, which is theirs."""
    if body.get("requestId"):
        try:
            return hub.registry.accounts.by_id(int(str(body["requestId"]), 16)).name
        except (ValueError, OverflowError) as error:
            raise InputError("requestId: this is none") from error
    return str(body.get("user", ""))


def _status(text: Any) -> AccessStatus:
    status = _STATES.get(str(text))
    if status is None:
        raise InputError(f"status: {str(text)[:40]!r}", f"use one of {', '.join(_STATES)}")
    return status


def _routes() -> tuple[BaseRoute, ...]:
    found: list[BaseRoute] = [Route("/api/users/{name}/likes", _liked)]
    for kind in ("models", "datasets"):
        repo = f"/api/{kind}/{{owner}}/{{name}}"
        page = "/{owner}/{name}" if kind == "models" else "/datasets/{owner}/{name}"
        found += [
            Route(f"{repo}/like", _like, methods=["POST", "DELETE"]),
            Route(f"{repo}/likers", _likers),
            Route(f"{page}/ask-access", _ask, methods=["POST"]),
            Route(f"{repo}/user-access-request/handle", _handle, methods=["POST"]),
            Route(f"{repo}/user-access-request/grant", _grant, methods=["POST"]),
            Route(f"{repo}/user-access-request/{{status}}", _requests),
        ]
    return tuple(found)


ROUTES = _routes()
