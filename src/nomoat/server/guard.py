"""Who may talk to the server: the right host name, no foreign web page, and a key where keys are set."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from nomoat.base.errors import InputError, NotFoundError
from nomoat.server.errors import HttpProblem, error_response

__all__ = ["Guard", "Policy", "is_loopback", "read_api_keys"]

_OPEN_PATHS = frozenset({"/health", "/v1/health"})


@dataclass(frozen=True)
class Policy:
    """What the guard enforces. `host` is the address that the server is bound to."""

    host: str = "127.0.0.1"
    key_digests: tuple[bytes, ...] = ()
    allowed_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.key_digests:
            raise InputError(
                f"{self.host} can be reached by other machines, and no API key is set",
                "give --api-key-file FILE, or stay with --host 127.0.0.1",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_api_keys(path: Path) -> tuple[bytes, ...]:
    """Digests of the keys in a file: one key a line; empty lines and `#` comments do not count.

    Raises `NotFoundError`, and `InputError` where there is no key in it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(f"{path}: {error}", "give a text file with one key a line") from error
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise InputError(f"{path}: there is no key in it", "write one key a line")
    return tuple(_digest(key) for key in keys)


class Guard:
    """ASGI middleware that turns away who may not pass, before anything is read."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app, self._policy = app, policy
        self._check_host = is_loopback(policy.host)  # elsewhere the key does it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 401 or 403."""
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await error_response(Request(scope), problem)(scope, receive, send)

    def _problem(self, scope: Scope) -> HttpProblem | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._check_host and not is_loopback(_host_name(host)):
            return HttpProblem("forbidden", "the Host header names no address of this machine",
                               "use http://127.0.0.1 or http://localhost")  # fmt: skip
        origin = headers.get("origin")
        if origin is not None and not self._allows(origin, host, scope.get("scheme", "http")):
            return HttpProblem("forbidden", "a web page of another origin may not use this server",
                               "start it with --allow-origin ORIGIN")  # fmt: skip
        if scope["method"] == "OPTIONS" or scope["path"] in _OPEN_PATHS or self._has_key(headers):
            return None
        return HttpProblem("unauthorized", "the API key is missing or wrong",
                           "send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'")  # fmt: skip

    def _allows(self, origin: str, host: str, scheme: str) -> bool:
        allowed: Sequence[str] = self._policy.allowed_origins
        return "*" in allowed or origin in allowed or origin.lower() == f"{scheme}://{host}".lower()

    def _has_key(self, headers: Headers) -> bool:
        if not self._policy.key_digests:
            return True
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
        digest = _digest(given)
        # All are compared, so that the time says nothing about which one was near.
        return any([hmac.compare_digest(digest, known) for known in self._policy.key_digests])


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _host_name(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if ":" in header else header
