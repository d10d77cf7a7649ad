"""Style sheets and scripts: part of the package, named by their content, kept by browsers for as long as they like."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.server.errors import HttpProblem

__all__ = ["ROUTES", "asset_url"]

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


def asset_url(name: str) -> str:
    """Where a browser finds it. The address changes with the content."""
    return f"/static/{_revision()}/{name}"


@functools.cache
def _content(name: str) -> bytes | None:
    """A file of the package's folder `static`; None where there is none of that name."""
    if name not in _names():
        return None
    return resources.files("nomoat.server.hub").joinpath("static", name).read_bytes()


@functools.cache
def _names() -> frozenset[str]:
    folder = resources.files("nomoat.server.hub").joinpath("static")
    return frozenset(item.name for item in folder.iterdir() if item.name.rpartition(".")[2] in _TYPES)


@functools.cache
def _revision() -> str:
    # One for all, as scripts import each other by relative names.
    hasher = hashlib.sha256()
    for name in sorted(_names()):
        hasher.update(_content(name) or b"")
    return hasher.hexdigest()[:12]


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    content = _content(name)
    if content is None:
        raise HttpProblem("not_found", f"there is no {name[:80]!r}")
    fresh = request.path_params["revision"] == _revision()
    headers = {"Cache-Control": _FOREVER if fresh else "no-cache", "X-Content-Type-Options": "nosniff"}
    return Response(content, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])


ROUTES = (Route("/static/{revision}/{name}", _asset),)
