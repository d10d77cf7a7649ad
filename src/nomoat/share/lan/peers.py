"""One machine of this network that has something: how it is asked."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any

import httpx

from nomoat.base.errors import InputError
from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.client.failures import plain_words
from nomoat.share.lan.interfaces import is_near

__all__ = ["SIZE_HEADER", "Peer", "PeerTrouble", "WrongBlock"]

SIZE_HEADER = "X-Blob-Size"
_TIMEOUT = httpx.Timeout(10, connect=4)
_LARGEST_LIST = 64 << 20  # checksums of 2 TiB
_LARGEST_JSON = 4 << 20


class PeerTrouble(Exception):
    """A peer did not answer as it should; it may do better the next time."""


class WrongBlock(Exception):
    """A peer sent a block that is not what it said itself."""


class Peer:
    """A peer at a URL such as `http://192.168.1.5:4321`. Only addresses in this network are asked."""

    def __init__(self, name: str, url: str) -> None:
        """Raises `InputError` for an address elsewhere."""
        self.name, parsed = name, httpx.URL(url)
        if parsed.scheme != "http" or not is_near(parsed.host):
            raise InputError(f"{url}: is no address in this network", "name one such as 192.168.1.5:4321")
        host = (
            f"[{parsed.host}]"
            if ipaddress.ip_address(parsed.host.partition("%")[0]).version == 6
            else parsed.host
        )
        # No proxy of the environment and no redirect: what is asked for here stays in this network.
        self._client = httpx.AsyncClient(
            base_url=f"http://{host}:{parsed.port or 80}", timeout=_TIMEOUT, trust_env=False, follow_redirects=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "nomoat"},
        )  # fmt: skip

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def things(self) -> Any:
        """Its list of things, not yet believed. Raises `PeerTrouble`."""
        content, _ = await self._whole("/things.json", _LARGEST_JSON)
        try:
            return json.loads(content)
        except ValueError as error:
            raise PeerTrouble("its list is no JSON") from error

    async def blocks(self, digest: str) -> tuple[int, bytes]:
        """Size of a file and checksums of its blocks, in its words. Raises `PeerTrouble`."""
        sums, headers = await self._whole(f"/blobs/{digest}/blocks", _LARGEST_LIST)
        size = headers.get(SIZE_HEADER, "")
        if not size.isdecimal() or len(size) > 15:
            raise PeerTrouble("does not say how large the file is")
        return int(size), sums

    async def read(self, digest: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Bytes `start` to `end - 1` of a file, block by block. Raises `PeerTrouble`."""
        left, buffer = end - start, bytearray()
        try:
            async with self._client.stream(
                "GET", f"/blobs/{digest}", headers={"Range": f"bytes={start}-{end - 1}"}
            ) as response:
                if response.status_code != 206:
                    raise PeerTrouble(f"answered {response.status_code}")
                async for chunk in response.aiter_raw():
                    buffer += chunk
                    while left and len(buffer) >= min(BLOCK_BYTES, left):
                        size = min(BLOCK_BYTES, left)
                        block, left = bytes(buffer[:size]), left - size
                        del buffer[:size]
                        yield block
                    if len(buffer) > BLOCK_BYTES or (buffer and not left):
                        raise PeerTrouble("sent more than it was asked for")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PeerTrouble(_reason(error)) from error
        if left:
            raise PeerTrouble("sent less than it was asked for")

    async def _whole(self, path: str, largest: int) -> tuple[bytes, httpx.Headers]:
        content = bytearray()
        try:
            async with self._client.stream("GET", path) as response:
                if response.status_code != 200:
                    raise PeerTrouble(f"answered {response.status_code}")
                async for chunk in response.aiter_raw():
                    content += chunk
                    if len(content) > largest:
                        raise PeerTrouble("sent a list without end")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PeerTrouble(_reason(error)) from error
        return bytes(content), response.headers


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "does not answer"
    return f"went away ({plain_words(error)})"
