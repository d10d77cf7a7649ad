"""A blob as an answer: read and verified in a thread, a block at a time, and cut off where a block is damaged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, TypeVar, TypeVarTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from nomoat.base.errors import NotFoundError
from nomoat.server.hub.errors import HubProblem
from nomoat.server.hub.hub import Hub
from nomoat.server.ranges import asked_bytes
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.errors import DamagedBlobError
from nomoat.share.registry.database import now_ms

__all__ = ["BlobResponse", "Range", "asked_range"]

_SENT_BYTES = 256 << 10  # so much of a block may wait in a connection's own buffer
_PART_SECONDS = 120.0  # a client that takes longer for that is not reading
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True)
class Range:
    """Bytes `start` to before `stop` of `size_bytes`; `partial` where the client asked for a part."""

    start: int
    stop: int
    size_bytes: int
    partial: bool = True

    @property
    def headers(self) -> dict[str, str]:
        """What says how many bytes come, and which."""
        length = {"Content-Length": str(self.stop - self.start)}
        if not self.partial:
            return length
        return {**length, "Content-Range": f"bytes {self.start}-{self.stop - 1}/{self.size_bytes}"}


def asked_range(request: Request, size_bytes: int, etag: str) -> Range | None:
    """The range that the client asks for; None for all. Raises `HubProblem` (416) where there is no such range.

    Of several ranges in one request none is served apart: such a request gets the whole, as HTTP allows.
    """
    part = asked_bytes(request.headers.get("range", ""), size_bytes)
    if part is None or request.headers.get("if-range", etag) != etag:
        return None
    start, stop = part
    if stop <= start:
        problem = HubProblem("bad_range", f"there are no such bytes: the file has {size_bytes:,}", status=416)
        problem.headers["Content-Range"] = f"bytes */{size_bytes}"
        raise problem
    return Range(start, stop, size_bytes)


class BlobResponse(Response):
    """Sends a range of a blob. Never a byte that was not verified."""

    def __init__(self, hub: Hub, digest: str, asked: Range, headers: Mapping[str, str]) -> None:
        self._hub, self._digest, self._asked, self._began_ms = hub, digest, asked, 0
        super().__init__(None, 206 if asked.partial else 200, {**headers, **asked.headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; an error before the first byte is an answer of its own, a later one ends the connection."""
        position = self._asked.start
        start: Message = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        if scope["method"] == "HEAD" or position == self._asked.stop:
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        left = asyncio.ensure_future(_disconnected(receive))
        self._began_ms = now_ms()
        try:
            with await self._read(self._hub.registry.store.open, self._digest) as reader:
                await self._send_blocks(reader, start, send, left)
        finally:
            left.cancel()

    async def _send_blocks(
        self, reader: BinaryIO, start: Message, send: Send, left: asyncio.Future[None]
    ) -> None:
        position = self._asked.start
        parts = await self._block(reader, position)
        await send(start)
        while parts and not left.done():
            # Let go of each as soon as it is on its way: there may be hundreds of downloads.
            part = parts.popleft()
            position += len(part)
            if not await self._send_part(send, part, more=position < self._asked.stop):
                return
            del part
            try:
                if not parts and position < self._asked.stop:
                    parts = await self._block(reader, position)
            except DamagedBlobError:
                return  # without the rest the server closes the connection: the client knows that it has not all

    async def _send_part(self, send: Send, part: bytes, *, more: bool) -> bool:
        """Whether the client took it in time."""
        try:
            async with asyncio.timeout(_PART_SECONDS):
                await send({"type": "http.response.body", "body": part, "more_body": more})
        except TimeoutError:
            return False
        return True

    async def _block(self, reader: BinaryIO, position: int) -> deque[bytes]:
        """Bytes from `position` to the end of its block, or of the range, in parts."""
        stop = min(position - position % BLOCK_BYTES + BLOCK_BYTES, self._asked.stop)

        def read() -> deque[bytes]:
            if reader.tell() != position:
                reader.seek(position)
            block = reader.read(stop - position)
            if len(block) != stop - position:
                raise DamagedBlobError(
                    f"{self._digest}: it ends before its size", "`nomoat hub check` lists what is damaged"
                )
            return deque(block[at : at + _SENT_BYTES] for at in range(0, len(block), _SENT_BYTES))

        return await self._read(read)

    async def _read(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """What `function` gives, in a thread; what it finds damaged or gone is marked."""
        try:
            return await self._hub.read(function, *arguments)
        except (DamagedBlobError, NotFoundError) as error:
            self._hub.log.error("%s", error.message)
            await self._hub.read(self._hub.registry.blobs.mark_damaged, self._digest, self._began_ms)
            raise


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
