"""All pages, in the order in which their addresses are tried."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.base.errors import NotFoundError
from nomoat.server.hub.pages import (
    assets,
    compare,
    discussions,
    files,
    gallery,
    lineage,
    login,
    moderation,
    owners,
    repo_page,
    settings,
    tokens,
    uploads,
    userfiles,
    versions,
)
from nomoat.server.hub.pages.render import Visit, page

__all__ = ["ROUTES"]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@page
async def _nothing_page(request: Request, visit: Visit) -> Response:
    raise NotFoundError(
        f"there is nothing at {request.url.path[:200]}", "search for it, or begin at the first page"
    )


async def _nothing(request: Request) -> Response:
    """A page for people; programs get the error that they know."""
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(404)
    return await _nothing_page(request)


ROUTES: tuple[BaseRoute, ...] = (
    *assets.ROUTES,
    *userfiles.ROUTES,
    *gallery.ROUTES,
    *login.ROUTES,
    *tokens.ROUTES,
    *moderation.ROUTES,
    *compare.ROUTES,
    *uploads.ROUTES,
    *files.ROUTES,
    *versions.ROUTES,
    *lineage.ROUTES,
    *discussions.ROUTES,
    *settings.ROUTES,
    *repo_page.ROUTES,
    *owners.ROUTES,
    Route("/{rest:path}", _nothing, methods=_METHODS),
)
