"""A person's tokens: made, shown once, ended."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.base.errors import InputError
from nomoat.server.hub.pages.render import Form, Visit, form, page, redirect, render
from nomoat.server.hub.pages.sessions import SESSION_LABEL
from nomoat.share.errors import ForbiddenError, UnauthorizedError
from nomoat.share.registry.accounts import Scope
from nomoat.share.registry.database import now_ms

__all__ = ["ROUTES"]

_DAY_MS = 24 * 3600 * 1000
_DAYS = (("7", "a week"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("0", "no end"))
_SCOPES: tuple[tuple[Scope, str], ...] = (
    ("read", "Read: download, private things of yours too"),
    ("write", "Write: also push, change and delete what is yours"),
    ("admin", "All: also make tokens, and run this hub if you do"),
)
_STRENGTH = {"read": 0, "write": 1, "admin": 2}


@page
async def _tokens(request: Request, visit: Visit) -> Response:
    return await _show(request, visit, "")


@form
async def _make(request: Request, visit: Visit, fields: Form) -> Response:
    scope = next((name for name, _ in _SCOPES if name == fields.get("scope")), None)
    days = fields.get("days", "")
    if scope is None or days not in dict(_DAYS):
        raise InputError("choose what the token may do, and for how long", "go back and choose")
    _require_strength(visit, scope)
    expires = now_ms() + int(days) * _DAY_MS if days != "0" else None
    label = fields.get("label", "").strip()[:100]
    accounts = visit.hub.registry.accounts
    new = await visit.hub.call(accounts.add_token, visit.who.name, _label(label), scope, expires_ms=expires)
    return await _show(request, visit, new)


@form
async def _end(request: Request, visit: Visit, fields: Form) -> Response:
    _require_strength(visit, "write")
    number = fields.get("id", "")
    if not (number.isascii() and number.isdigit() and len(number) < 18):
        raise InputError("which token?", "go back and choose one")
    await visit.hub.call(visit.hub.registry.accounts.revoke_token, visit.who.name, int(number))
    return redirect("/tokens")


async def _show(request: Request, visit: Visit, new: str) -> Response:
    if not visit.who.known:
        raise UnauthorizedError("tokens belong to somebody", "log in first")
    known = await visit.hub.call(visit.hub.registry.accounts.tokens, visit.who.name)
    scopes = [(name, words) for name, words in _SCOPES if _may_make(visit, name)]
    return render(
        request, visit, "tokens.html", new=new, scopes=scopes, days=_DAYS, current=visit.who.token_id, now=now_ms(),
        tokens=[each for each in known if each.label != SESSION_LABEL],
        sessions=[each for each in known if each.label == SESSION_LABEL],
    )  # fmt: skip


def _label(given: str) -> str:
    # A token of that label could not be used to log in.
    return "token" if given in {"", SESSION_LABEL} else given


def _may_make(visit: Visit, scope: str) -> bool:
    return visit.who.scope in {"write", "admin"} and _STRENGTH[scope] <= _STRENGTH[visit.who.scope]


def _require_strength(visit: Visit, scope: str) -> None:
    """A weak or narrow session must not help itself to a strong token."""
    if visit.who.repo_id is not None or not _may_make(visit, scope):
        raise ForbiddenError("this session may not do that", "log in with a token of the scope 'admin'")


ROUTES = (
    Route("/tokens", _tokens, methods=["GET"]),
    Route("/tokens", _make, methods=["POST"]),
    Route("/tokens/end", _end, methods=["POST"]),
)
