"""Discussions as Hugging Face's clients read them; they are written on the hub's pages."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.server.hub.auth import hub_of, identity_of
from nomoat.server.hub.hf_repos import kind_of, name_of
from nomoat.server.hub.wire import iso_time
from nomoat.server.wire import json_response
from nomoat.share.registry.discussions import Comment, Discussion
from nomoat.share.registry.repos import Repo

__all__ = ["ROUTES"]

_PAGE = 50


async def _list(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    query = request.query_params
    page = int(query.get("p", "0")) if query.get("p", "0").isdigit() else 0

    def listed() -> dict[str, Any]:
        repo = hub.repo(who, kind_of(request), name_of(request))
        found = hub.registry.discussions.list(repo) if query.get("type") != "pull_request" else []
        status, author = query.get("status", "all"), query.get("author")
        chosen = [each for each in found if status in {"all", each.status} and author in {None, each.author}]
        shown = chosen[page * _PAGE : (page + 1) * _PAGE]
        return {"discussions": [_discussion_json(repo, each) for each in shown], "count": len(chosen),
                "start": page * _PAGE}  # fmt: skip

    return json_response(await hub.call(listed))


async def _details(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)

    def found() -> dict[str, Any]:
        repo = hub.repo(who, kind_of(request), name_of(request))
        discussion = hub.registry.discussions.get(repo, request.path_params["number"])
        events = [_comment_json(number, each) for number, each in enumerate(discussion.comments)]
        return _discussion_json(repo, discussion) | {"events": events}

    return json_response(await hub.call(found))


def _discussion_json(repo: Repo, discussion: Discussion) -> dict[str, Any]:
    return {
        "num": discussion.number, "title": discussion.title, "author": {"name": discussion.author},
        "status": discussion.status, "createdAt": iso_time(discussion.created_ms), "isPullRequest": False,
        "repo": {"name": str(repo.name), "type": repo.name.kind}, "numComments": len(discussion.comments),
    }  # fmt: skip


def _comment_json(number: int, comment: Comment) -> dict[str, Any]:
    latest = {
        "raw": comment.text,
        "html": "",
        "updatedAt": iso_time(comment.created_ms),
        "author": {"name": comment.author},
    }
    return {
        "id": f"{number:024x}", "type": "comment", "createdAt": iso_time(comment.created_ms),
        "author": {"name": comment.author}, "data": {"edited": False, "hidden": False, "latest": latest, "history": []},
    }  # fmt: skip


ROUTES: tuple[BaseRoute, ...] = tuple(
    route
    for kind in ("models", "datasets")
    for route in (
        Route(f"/api/{kind}/{{owner}}/{{name}}/discussions", _list),
        Route(f"/api/{kind}/{{owner}}/{{name}}/discussions/{{number:int}}", _details),
    )
)
