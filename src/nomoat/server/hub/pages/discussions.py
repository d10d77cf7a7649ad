"""Discussions of a repository, to be read."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from nomoat.server.hub.pages.cards import card_html
from nomoat.server.hub.pages.opened import open_repo, repo_routes
from nomoat.server.hub.pages.render import Visit, page, render

__all__ = ["ROUTES"]


@page
async def _list(request: Request, visit: Visit) -> Response:
    opened = await open_repo(request, visit)
    found = await visit.hub.call(visit.hub.registry.discussions.list, opened.repo)
    return render(
        request, visit, "discussions.html", opened=opened, repo=opened.repo, tab="discussions", found=found
    )


@page
async def _one(request: Request, visit: Visit) -> Response:
    opened = await open_repo(request, visit)
    number = request.path_params["number"]
    found = await visit.hub.call(visit.hub.registry.discussions.get, opened.repo, number)
    comments = [(each, card_html(each.text, {}, opened.file_url)) for each in found.comments]
    return render(
        request, visit, "discussion.html", opened=opened, repo=opened.repo, tab="discussions", found=found,
        comments=comments,
    )  # fmt: skip


ROUTES = (*repo_routes("/discussions", _list), *repo_routes("/discussions/{number:int}", _one))
