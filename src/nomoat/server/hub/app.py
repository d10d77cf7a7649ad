"""The application: routes from the modules that export them, errors, the guard in front of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from nomoat.server.hub import (
    hf_access,
    hf_discussions,
    hf_files,
    hf_list,
    hf_manage,
    hf_people,
    hf_repos,
    hf_write,
    keys,
    lfs,
    native,
    xet,
)
from nomoat.server.hub.errors import error_handlers
from nomoat.server.hub.guard import HubGuard
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.pages import routes as pages

__all__ = ["ROUTES", "make_hub_app"]

# In this order: the first route that matches answers. What names a repository comes last.
ROUTES: tuple[BaseRoute, ...] = (
    *native.ROUTES,
    *keys.ROUTES,
    *hf_people.ROUTES,
    *hf_access.ROUTES,
    *hf_discussions.ROUTES,
    *hf_list.ROUTES,
    *hf_manage.ROUTES,
    *xet.ROUTES,
    *hf_write.ROUTES,
    *hf_repos.ROUTES,
    *lfs.ROUTES,
    *hf_files.ROUTES,
    *pages.ROUTES,
)


def make_hub_app(hub: Hub, routes: Sequence[BaseRoute] = ROUTES) -> Starlette:
    """The ASGI application for `hub`."""
    handlers: dict[Any, Any] = error_handlers()
    app = Starlette(
        routes=list(routes), middleware=[Middleware(HubGuard, hub=hub)], exception_handlers=handlers
    )
    app.router.redirect_slashes = False
    app.state.hub = hub
    return app
