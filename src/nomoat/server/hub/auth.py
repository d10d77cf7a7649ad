"""Who asks: by a token in the header Authorization, or by what else is plugged in (a session of the pages)."""

from __future__ import annotations

import contextlib

from starlette.requests import Request

from nomoat.server.errors import HttpProblem
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.pages.sessions import session_of
from nomoat.share.errors import UnauthorizedError
from nomoat.share.registry.accounts import ANONYMOUS, Identity

__all__ = ["bearer_token", "hub_of", "identity_of", "refuse_token_in_url"]

_TOKEN_NAMES = frozenset({"token", "access_token", "hf_token", "api_key", "auth", "authorization"})


def hub_of(request: Request) -> Hub:
    """The hub that serves this request."""
    hub: Hub = request.app.state.hub
    return hub


async def identity_of(request: Request) -> Identity:
    """Who sent the request. Raises `UnauthorizedError` where the token is not valid."""
    token = bearer_token(request.headers.get("authorization", ""))
    if token:
        hub = hub_of(request)
        return await hub.call(hub.registry.accounts.identify, token)
    # A browser that downloads: what changes something goes through forms, which prove where they come from.
    session = session_of(request) if request.method in {"GET", "HEAD"} else ""
    if session:
        with contextlib.suppress(UnauthorizedError):
            hub = hub_of(request)
            return await hub.call(hub.registry.accounts.identify, session)
    return ANONYMOUS


def bearer_token(header: str) -> str:
    """The token of an Authorization header; empty for none. Basic is git's way: the token is the password."""
    kind, _, value = header.partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def refuse_token_in_url(query: str) -> None:
    """Raise where a query carries a token: addresses end up in logs and histories."""
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name.lower() in _TOKEN_NAMES or value.lower().startswith("hf_"):
            raise HttpProblem(
                "bad_input",
                "a token has no place in an address",
                "send it as 'Authorization: Bearer TOKEN', and make a new one: this one was exposed",
            )
