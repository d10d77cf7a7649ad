"""Log in with a token, log out."""

from __future__ import annotations

import contextlib
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.base.errors import NomoatError
from nomoat.server.hub.errors import hub_status_of
from nomoat.server.hub.pages.render import Form, Visit, form, page, read_form, redirect, render
from nomoat.server.hub.pages.sessions import begin_session, end_session, forget_session, keep_session
from nomoat.share.errors import ForbiddenError, UnauthorizedError

__all__ = ["ROUTES"]


@page
async def _show(request: Request, visit: Visit) -> Response:
    where = _own_path(request.query_params.get("next", ""))
    return render(request, visit, "login.html", problem=None, next=where)


@page
async def _log_in(request: Request, visit: Visit) -> Response:
    # No session yet, so no form of one: a browser says itself where the form came from.
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise ForbiddenError("this form came from another site", "open this hub's own page to log in")
    fields = await read_form(request)
    where = _own_path(fields.get("next", ""))
    accounts = visit.hub.registry.accounts
    try:
        session = await visit.hub.call(begin_session, accounts, fields.get("token", ""))
    except NomoatError as problem:
        return render(request, visit, "login.html", hub_status_of(problem), problem=problem, next=where)
    response = redirect(where)
    keep_session(response, session, secure=_is_secure(request, visit))
    return response


@form
async def _log_out(request: Request, visit: Visit, fields: Form) -> Response:
    with contextlib.suppress(UnauthorizedError):
        await visit.hub.call(end_session, visit.hub.registry.accounts, visit.session)
    response = redirect("/")
    forget_session(response)
    return response


def _own_path(text: str) -> str:
    """`text` where it is a path of this hub, else the first page: a link must not lead elsewhere after a login."""
    parts = urlsplit(text)
    own = (
        text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    )
    return text if own and text.isprintable() else "/"


def _is_secure(request: Request, visit: Visit) -> bool:
    return request.url.scheme == "https" or visit.hub.config.public_url.startswith("https:")


ROUTES = (
    Route("/login", _show, methods=["GET"]),
    Route("/login", _log_in, methods=["POST"]),
    Route("/logout", _log_out, methods=["POST"]),
)
