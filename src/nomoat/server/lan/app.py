"""The application behind `nomoat share`: a page for people, a list and the files for programs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from nomoat.base.errors import NomoatError
from nomoat.server.errors import status_of
from nomoat.server.lan.files import Closing, CutShort, file_response
from nomoat.server.lan.guard import LanGuard
from nomoat.server.lan.hf import hf_routes, repos_of
from nomoat.share.lan.blocks import Shelf
from nomoat.share.lan.offers import PROTOCOL_VERSION
from nomoat.share.lan.peers import SIZE_HEADER

__all__ = ["make_lan_app"]

_TEMPLATES = Path(__file__).parent / "templates"


def make_lan_app(shelf: Shelf) -> Starlette:
    """The ASGI application that hands out what is on `shelf`, and nothing else."""
    names = {file.digest: file.path for thing in shelf.things for file in thing.files}
    page, style = _page(shelf), (_TEMPLATES / "lan.css").read_text(encoding="utf-8")
    listing = {"v": int(PROTOCOL_VERSION), "things": [thing.as_json() for thing in shelf.things]}

    async def people(request: Request) -> Response:
        return HTMLResponse(page(str(request.base_url.netloc)))

    async def css(request: Request) -> Response:
        return Response(style, media_type="text/css")

    async def things(request: Request) -> Response:
        return JSONResponse(listing)

    async def blob(request: Request) -> Response:
        digest = request.path_params["digest"]
        return await file_response(request, shelf, digest, names.get(digest, ""))

    async def blocks(request: Request) -> Response:
        digest = request.path_params["digest"]
        size_bytes = await anyio.to_thread.run_sync(shelf.size_bytes, digest)
        headers = {SIZE_HEADER: str(size_bytes)}
        return Response(shelf.sums(digest), headers=headers, media_type="application/octet-stream")

    app = Starlette(
        routes=[
            Route("/", people), Route("/lan.css", css), Route("/things.json", things),
            Route("/blobs/{digest}", blob), Route("/blobs/{digest}/blocks", blocks),
            *hf_routes(shelf),
        ],
        middleware=[Middleware(LanGuard)],
        exception_handlers={NomoatError: _refused, Exception: _failed},
    )  # fmt: skip
    app.state.closing = Closing()
    return app


def _page(shelf: Shelf) -> Callable[[str], str]:
    """Renders the page for a host and port by which it is reached."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    repos = list(repos_of(shelf.things).values())
    template = environment.get_template("lan.html.j2")

    def rendered(address: str) -> str:
        return template.render(things=shelf.things, repos=repos, address=address, size_words=_size_words)

    return rendered


def _size_words(count_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count_bytes >= size:
            return f"{count_bytes / size:.1f} {unit}"
    return f"{count_bytes} bytes"


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, NomoatError)
    return PlainTextResponse(f"{error.message}\n", status_of(error))


async def _failed(request: Request, error: Exception) -> Response:
    if not isinstance(error, CutShort):
        logging.getLogger("nomoat.server").error("%s", request.url.path, exc_info=error)
    return PlainTextResponse("a fault in nomoat; its log has the details\n", 500)
