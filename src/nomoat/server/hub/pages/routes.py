"""All pages, in the order in which their addresses are tried."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from nomoat.base.errors import NotFoundError
from nomoat.server.hub.pages import assets, files, gallery, lineage, login, repo_page, userfiles, versions
from nomoat.server.hub.pages.render import Visit, page

__all__ = ["ROUTES"]


@page
async def _nothing(request: Request, visit: Visit) -> Response:
    raise NotFoundError(
        f"there is nothing at {request.url.path[:200]}", "search for it, or begin at the first page"
    )


ROUTES: tuple[BaseRoute, ...] = (
    *assets.ROUTES,
    *userfiles.ROUTES,
    *gallery.ROUTES,
    *login.ROUTES,
    *files.ROUTES,
    *versions.ROUTES,
    *lineage.ROUTES,
    *repo_page.ROUTES,
)
