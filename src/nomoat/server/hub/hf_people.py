"""Who somebody is, whom they like, and who may download what is gated."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nomoat.server.hub.auth import bearer_token, hub_of, identity_of
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.wire import iso_time
from nomoat.server.wire import json_response
from nomoat.share.registry.accounts import Account, Identity

__all__ = ["ROUTES"]


async def _whoami(request: Request) -> Response:
    hub, who = hub_of(request), await identity_of(request)
    who.require_known()
    by_token = bool(bearer_token(request.headers.get("authorization", "")))
    return json_response(await hub.call(_whoami_json, hub, who, by_token))


def _whoami_json(hub: Hub, who: Identity, by_token: bool) -> dict[str, Any]:
    account = hub.registry.accounts.get(who.name)
    orgs = hub.registry.accounts.organisations(who.name)
    token = {"displayName": _label(hub, who), "role": "read" if who.scope == "read" else "write"}
    return {
        "type": "user", "id": f"{account.id:024x}", "name": account.name, "fullname": account.full_name or account.name,
        "email": "", "emailVerified": False, "canPay": False, "periodEnd": None, "isPro": False, "avatarUrl": "",
        "orgs": [{"type": "org", "id": f"{org.id:024x}", "name": org.name, "fullname": org.full_name or org.name,
                  "roleInOrg": role, "isEnterprise": False, "avatarUrl": ""} for org, role in orgs],
        "auth": {"type": "access_token" if by_token else "cookie", "accessToken": token},
    }  # fmt: skip


def _label(hub: Hub, who: Identity) -> str:
    labels = {token.id: token.label for token in hub.registry.accounts.tokens(who.name)}
    return labels.get(who.token_id or 0, "session")


async def _overview(request: Request) -> Response:
    hub = hub_of(request)
    await identity_of(request)
    account = await hub.call(hub.registry.accounts.get, request.path_params["name"])
    return json_response(_overview_json(account))


def _overview_json(account: Account) -> dict[str, Any]:
    return {
        "_id": f"{account.id:024x}", "type": account.kind, "user": account.name, "name": account.name,
        "fullname": account.full_name or account.name, "avatarUrl": "", "details": account.about,
        "isPro": False, "createdAt": iso_time(account.created_ms),
    }  # fmt: skip


ROUTES: tuple[BaseRoute, ...] = (
    Route("/api/whoami-v2", _whoami),
    Route("/api/users/{name}/overview", _overview),
    Route("/api/organizations/{name}/overview", _overview),
)
