"""A page for each person and organisation: what they made."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.base.errors import NotFoundError
from nomoat.server.hub.pages.gallery import items_of
from nomoat.server.hub.pages.render import Visit, page, render
from nomoat.share.names import RepoKind
from nomoat.share.registry.accounts import Account
from nomoat.share.registry.search.search import SearchQuery

__all__ = ["ROUTES"]

_SHOWN = 48
_KINDS: tuple[RepoKind, ...] = ("model", "dataset")


@page
async def _owner(request: Request, visit: Visit) -> Response:
    name = request.path_params["owner"]
    account = await visit.hub.call(visit.hub.registry.accounts.find, name)
    if account is None:
        raise NotFoundError(f"there is nothing at /{name[:80]}", "search for it, or begin at the first page")
    found = await visit.hub.call(_made_by, visit, account)
    return render(request, visit, "owner.html", account=account, **found)


def _made_by(visit: Visit, account: Account) -> dict[str, Any]:
    hub, search = visit.hub, visit.hub.registry.search
    models, datasets = (
        search.find(visit.who, SearchQuery(kind=kind, owner=account.name, sort="updated", limit=_SHOWN))
        for kind in _KINDS
    )
    orgs = hub.registry.accounts.organisations(account.name) if account.kind == "user" else []
    return {"models": items_of(hub, models.repos), "n_models": models.total, "orgs": orgs,
            "datasets": items_of(hub, datasets.repos), "n_datasets": datasets.total}  # fmt: skip


ROUTES = (Route("/{owner}", _owner),)
