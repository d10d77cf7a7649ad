"""In front of everything: which Host and Origin may be named, how fast requests may come, an id for each."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nomoat.base.errors import NomoatError, OverloadedError
from nomoat.server.errors import HttpProblem
from nomoat.server.guard import is_loopback
from nomoat.server.hub.auth import bearer_token, refuse_token_in_url
from nomoat.server.hub.errors import error_response, note_refusal
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.unread import Exchange

__all__ = ["HubGuard"]

_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_CALLERS = 10_000


class HubGuard:
    """ASGI middleware that turns away what may not pass before anything is read."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self._app, self._hub = app, hub
        self._hosts = _own_hosts(hub)
        self._files_host = urlsplit(hub.config.files_url).netloc.lower()
        self._rate = _Rate(hub.config.limits.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        exchange = Exchange(scope, receive, send, request_id)
        try:
            self._check(scope, Headers(scope=scope))
        except NomoatError as error:
            note_refusal(scope, error, always=True)
            await error_response(error)(scope, exchange.receive, exchange.send)
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            # Nobody foresaw it. The log has the place, and the client the number by which to find it there.
            self._hub.log.exception("%s %s (request %s)", scope["method"], scope["path"][:200], request_id)
            if exchange.started:
                raise
            await error_response(error)(scope, exchange.receive, exchange.send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "").lower()
        if self._hosts is not None and not self._is_own(host):
            raise HttpProblem("forbidden", "the Host header names no address of this hub",
                              "use its own address, or start it with --public-url")  # fmt: skip
        scope["state"]["files_only"] = bool(self._files_host) and host == self._files_host
        if scope["state"]["files_only"] and not _is_file(scope["path"]):
            raise HttpProblem("not_found", "this origin serves files only")
        refuse_token_in_url(scope["query_string"].decode("latin-1"))
        authorization = headers.get("authorization", "")
        origin = headers.get("origin")
        if (
            scope["method"] not in _HARMLESS
            and origin
            and not authorization
            and urlsplit(origin).netloc.lower() != host
        ):
            raise HttpProblem("forbidden", "a web page of another origin may not change anything here")
        client = scope.get("client")
        self._rate.count(bearer_token(authorization) or (client[0] if client else ""))

    def _is_own(self, host: str) -> bool:
        name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
        return is_loopback(name) or host in (self._hosts or ())


def _is_file(path: str) -> bool:
    return "/resolve/" in path or path.startswith("/userfiles/")


def _own_hosts(hub: Hub) -> frozenset[str] | None:
    """What Host may say besides this machine's own names; None: anything, as nobody knows a public hub's names."""
    urls = (hub.config.public_url, hub.config.files_url)
    known = frozenset(urlsplit(url).netloc.lower() for url in urls if url)
    return known if known or is_loopback(hub.config.host) else None


@dataclass
class _Bucket:
    tokens: float
    at: float


class _Rate:
    """A token bucket for each caller: it holds a minute's worth, and fills steadily."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[int, _Bucket] = OrderedDict()

    def count(self, caller: str) -> None:
        """One request of `caller`. Raises `OverloadedError` where it was one too many."""
        if not self._per_minute:
            return
        now, key = time.monotonic(), hash(caller)  # no token is kept, not even here
        bucket = self._buckets.pop(key, None) or _Bucket(self._per_minute, now)
        self._buckets[key] = bucket
        if len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._per_minute, bucket.tokens + (now - bucket.at) * self._per_minute / 60)
        bucket.at = now
        if bucket.tokens < 1:
            raise OverloadedError("too many requests", "wait a little", 60 / self._per_minute + 1)
        bucket.tokens -= 1
