"""Public keys: people register the one that they sign with, and whoever pulls asks for those of a repository."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.base.errors import InputError
from nomoat.server.hub.auth import hub_of, identity_of
from nomoat.server.hub.hf_repos import kind_of, name_of
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.wire import read_json
from nomoat.server.wire import json_response
from nomoat.share.errors import ConflictError, ForbiddenError
from nomoat.share.registry.accounts import Identity
from nomoat.share.trust.keys import PublicKey

__all__ = ["ROUTES"]


async def _register(request: Request) -> Response:
    """Keep the sender's key. Another one takes its place only where the sender says so."""
    hub, who, body = hub_of(request), await identity_of(request), await read_json(request)
    who.require_known()
    if who.scope == "read" or who.repo_id is not None:
        raise ForbiddenError("this token may not change the account", "use one that may write everywhere")
    pem = body.get("public_key")
    if not isinstance(pem, str):
        raise InputError("public_key: give it in PEM form")
    return json_response(
        await hub.call(_registered, hub, who, PublicKey.parse(pem), body.get("replace") is True)
    )


def _registered(hub: Hub, who: Identity, key: PublicKey, replace: bool) -> dict[str, Any]:
    known = hub.registry.accounts.get(who.name).public_key
    if known and PublicKey.parse(known) != key and not replace:
        raise ConflictError(
            f"{who.name} signs with another key ({PublicKey.parse(known).key_id[:16]}...)",
            "use that one, or replace it: everybody who knows it will be warned",
        )
    if not known or PublicKey.parse(known) != key:
        hub.registry.accounts.change(who.name, public_key=key.pem)
    return _key_json(who.name, key)


async def _of_repo(request: Request) -> Response:
    """The keys that may vouch for a repository."""
    hub, who = hub_of(request), await identity_of(request)

    def read() -> list[dict[str, Any]]:
        repo = hub.repo(who, kind_of(request), name_of(request))
        return [_key_json(name, key) for name, key in hub.registry.vouching.signers(repo).items()]

    return json_response({"keys": await hub.call(read)})


def _key_json(name: str, key: PublicKey) -> dict[str, Any]:
    return {"name": name, "key_id": key.key_id, "public_key": key.pem}


def _routes() -> tuple[BaseRoute, ...]:
    places = [Route(f"/api/{kind}/{{owner}}/{{name}}/keys", _of_repo) for kind in ("models", "datasets")]
    return (Route("/api/nomoat/key", _register, methods=["PUT"]), *places)


ROUTES = _routes()
