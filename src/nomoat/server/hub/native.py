"""What only this hub says: whether it is well, and (as parts come) digests, lineage and trust."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat import __version__
from nomoat.server.hub.auth import hub_of
from nomoat.server.wire import json_response

__all__ = ["ROUTES"]


async def _health(request: Request) -> Response:
    return json_response({"status": "ok", "version": __version__, "started": hub_of(request).started})


ROUTES = (Route("/health", _health),)
