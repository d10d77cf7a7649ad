"""A file of a thing over HTTP: whole or one range, every block compared before it goes out."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from nomoat.base.errors import NomoatError
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.lan.blocks import Shelf

__all__ = ["Closing", "CutShort", "file_response"]

_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")
_TYPE = "application/octet-stream"


class CutShort(Exception):
    """Ends an answer before its announced length, on purpose: the connection is closed, which tells its reader."""


class Closing:
    """Set once the server ends: running answers then stop at their next block."""

    def __init__(self) -> None:
        self.begun = False


async def file_response(request: Request, shelf: Shelf, digest: str, name: str) -> Response:
    """The answer to GET or HEAD of the file `digest`, to be saved as `name`.

    Raises `NotFoundError` where it is not on offer, `DamagedBlobError` where its first block has changed. A block
    that has changed later on ends the answer early: the reader notices by its length.
    """
    size_bytes, tag = shelf.size_bytes(digest), f'"{digest.removeprefix("sha256:")}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Cache-Control": "no-cache",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    asked = request.headers.get("range", "") if request.headers.get("if-range", tag) == tag else ""
    status, (start, end) = 200, (0, size_bytes)
    if (part := _range(asked, size_bytes)) is not None:
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


def _range(asked: str, size_bytes: int) -> tuple[int, int] | None:
    """Start and end of the range that is asked for; None where the whole file is due: no range, or several."""
    match = _RANGE.fullmatch(asked)
    if match is None or match.group(1, 2) == ("", ""):
        return None
    if not match[1]:
        return max(0, size_bytes - int(match[2])), size_bytes
    last = int(match[2]) if match[2] else size_bytes - 1
    return int(match[1]), min(last + 1, size_bytes)
