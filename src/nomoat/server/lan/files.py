"""A file of a thing over HTTP: whole or one range, every block compared before it goes out."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from nomoat.base.errors import NomoatError
from nomoat.server.ranges import asked_bytes
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.lan.blocks import Shelf

__all__ = ["Closing", "CutShort", "file_response"]

_TYPE = "application/octet-stream"


class CutShort(Exception):
    """Ends an answer before its announced length, on purpose: the connection is closed, which tells its reader."""


class Closing:
    """Set once the server ends: running answers then stop at their next block."""

    def __init__(self) -> None:
        self.begun = False


async def file_response(
    request: Request, shelf: Shelf, digest: str, name: str, more: Mapping[str, str] | None = None
) -> Response:
    """The answer to GET or HEAD of the file `digest`, to be saved as `name`, with `more` headers.

    Raises `NotFoundError` where it is not on offer, `DamagedBlobError` where its first block has changed. A block
    that has changed later on ends the answer early: the reader notices by its length.
    """
    size_bytes, tag = shelf.size_bytes(digest), f'"{digest.removeprefix("sha256:")}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Cache-Control": "no-cache",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}",
        **(more or {}),
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    asked = request.headers.get("range", "") if request.headers.get("if-range", tag) == tag else ""
    status, (start, end) = 200, (0, size_bytes)
    if (part := asked_bytes(asked, size_bytes)) is not None:
        status, (start, end) = 206, part
        if start >= end:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size_bytes}"})
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size_bytes}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD" or start == end:
        return Response(None, status, headers, _TYPE)
    first = await anyio.to_thread.run_sync(shelf.read_block, digest, start // BLOCK_BYTES)
    body = _parts(shelf, digest, (start, end), first, request.app.state.closing)
    return StreamingResponse(body, status, headers, _TYPE)


async def _parts(
    shelf: Shelf, digest: str, bounds: tuple[int, int], block: bytes, closing: Closing
) -> AsyncIterator[bytes]:
    position, end = bounds
    while True:
        if closing.begun:
            raise CutShort
        index, within = divmod(position, BLOCK_BYTES)
        part = block[within : within + end - position]
        yield part
        position += len(part)
        if position >= end:
            return
        try:
            block = await anyio.to_thread.run_sync(shelf.read_block, digest, index + 1)
        except (NomoatError, OSError) as error:
            logging.getLogger("nomoat.server").error("%s", error)
            raise CutShort from error
