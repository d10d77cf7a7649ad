"""Who is logged in: a cookie that holds a token of its own, so that it can be listed, ends, and is kept as a hash."""

from __future__ import annotations

import hashlib
import hmac

from starlette.requests import Request
from starlette.responses import Response

from nomoat.share.errors import UnauthorizedError
from nomoat.share.registry.accounts import Accounts
from nomoat.share.registry.database import now_ms

__all__ = [
    "SESSION_LABEL",
    "begin_session",
    "csrf_of",
    "end_session",
    "forget_session",
    "keep_session",
    "session_of",
]

SESSION_LABEL = "browser session"
_COOKIE = "nomoat_session"
_DAYS = 14
_DAY_MS = 24 * 3600 * 1000


def session_of(request: Request) -> str:
    """The token in the cookie; empty for none, and where nobody is logged in: cookies do not tell ports apart."""
    if request.scope.get("state", {}).get("files_only"):
        return ""
    return request.cookies.get(_COOKIE, "")


def csrf_of(session: str) -> str:
    """What each form of this session carries: only who can read its pages knows it."""
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest() if session else ""


def begin_session(accounts: Accounts, token: str) -> str:
    """A session with the power of `token`, which ends with it at the latest. Raises `UnauthorizedError`."""
    who = accounts.identify(token.strip())
    own = next((info for info in accounts.tokens(who.name) if info.id == who.token_id), None)
    if own is None or own.label == SESSION_LABEL:
        raise UnauthorizedError("this is no token to log in with", "make one on the page of your tokens")
    ends = now_ms() + _DAYS * _DAY_MS
    if own.expires_ms is not None:
        ends = min(ends, own.expires_ms)
    return accounts.add_token(
        who.name, SESSION_LABEL, own.scope, repo_id=own.repo_id, expires_ms=ends, made_with=own.id
    )


def end_session(accounts: Accounts, session: str) -> None:
    """The session's token is valid no longer."""
    who = accounts.identify(session)
    if who.token_id is not None:
        accounts.revoke_token(who.name, who.token_id)


def keep_session(response: Response, session: str, *, secure: bool) -> None:
    """Hand the cookie out: no script reads it, no other site sends it."""
    response.set_cookie(
        _COOKIE, session, max_age=_DAYS * 24 * 3600, path="/", httponly=True, samesite="strict", secure=secure
    )


def forget_session(response: Response) -> None:
    """Take the cookie back."""
    response.delete_cookie(_COOKIE, path="/", httponly=True, samesite="strict")
