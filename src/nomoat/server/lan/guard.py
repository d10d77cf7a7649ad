"""Who may read: people of this network, with GET and HEAD, a few transfers each, and no page of another site."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nomoat.share.lan.interfaces import is_near

__all__ = ["LanGuard"]

_MOST_REQUESTS_PER_PEER = 16
_SECONDS_TO_TAKE = 60  # for one message of an answer; who takes longer has gone
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; form-action 'none'; "
                               "base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip


class LanGuard:
    """ASGI middleware around everything that `nomoat share` answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._requests: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 403, 405 or 429."""
        peer = (scope.get("client") or ("",))[0]
        refusal = self._refusal(scope, peer)
        self._requests[peer] += 1
        try:
            await (refusal or self._app)(scope, receive, _patient(send))
        finally:
            self._requests[peer] -= 1
            self._requests += Counter()  # drops those that have come to nothing

    def _refusal(self, scope: Scope, peer: str) -> PlainTextResponse | None:
        if not is_near(peer):
            return PlainTextResponse("only for machines of this network\n", 403)
        if not _is_address_here(Headers(scope=scope).get("host", "")):
            return PlainTextResponse("use the address that `nomoat share` shows\n", 403)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("read-only\n", 405, {"Allow": "GET, HEAD"})
        if self._requests[peer] >= _MOST_REQUESTS_PER_PEER:
            return PlainTextResponse("too many requests at once\n", 429, {"Retry-After": "2"})
        return None


def _patient(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message["headers"],
                *((name.lower().encode(), value.encode()) for name, value in _HEADERS.items()),
            ]
        await asyncio.wait_for(send(message), _SECONDS_TO_TAKE)

    return sending


def _is_address_here(host: str) -> bool:
    """Whether a Host header is an address or a name of this network: no site's name that was pointed here."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower().rstrip(".").endswith(".local") or name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
