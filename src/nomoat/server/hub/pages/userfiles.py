"""The origin for what users sent. Nobody is logged in there, and nothing from there can run."""

from __future__ import annotations

import hmac

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from nomoat.base.errors import NotFoundError
from nomoat.server.hub.auth import hub_of
from nomoat.server.hub.pages.pictures import proof_of, small_picture
from nomoat.share.names import check_digest

__all__ = ["ROUTES"]

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": "private, max-age=31536000, immutable",
    "Referrer-Policy": "no-referrer",
}


async def _picture(request: Request) -> Response:
    hub, width = hub_of(request), request.path_params["width"]
    digest = check_digest(f"sha256:{request.path_params['name']}")
    if not hmac.compare_digest(request.query_params.get("k", ""), proof_of(hub, digest, width)):
        raise NotFoundError("there is no such picture", "reload the page that shows it")
    await hub.call(hub.registry.takedowns.require_served, digest)
    path = await to_thread.run_sync(small_picture, hub, digest, width, limiter=hub.painters)
    return FileResponse(path, headers=_HEADERS, media_type="image/webp")


ROUTES = (Route("/userfiles/picture/{name}/{width:int}.webp", _picture),)
