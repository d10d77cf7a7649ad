"""From a request to a page: who visits, what went wrong in words, the headers that keep scripts of others out."""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from nomoat.base.errors import NomoatError
from nomoat.server.errors import HttpProblem, problem_of
from nomoat.server.hub.auth import hub_of
from nomoat.server.hub.errors import MovedRepo, hub_status_of
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.pages import fingerprints, pictures, words
from nomoat.server.hub.pages.assets import asset_url
from nomoat.server.hub.pages.sessions import csrf_of, session_of
from nomoat.server.wire import json_response
from nomoat.share.errors import ForbiddenError, UnauthorizedError
from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import ANONYMOUS, Identity
from nomoat.share.registry.repos import Repo

__all__ = ["Form", "Visit", "api", "form", "page", "page_headers", "query_with", "read_form", "read_limited",
           "redirect", "render", "repo_url"]  # fmt: skip

_MOST_FORM_BYTES = 256 << 10
_TITLES = {400: "That did not work", 401: "Please log in", 403: "Not allowed", 404: "Nothing here", 409: "Conflict",
           410: "Taken down", 413: "Too large", 422: "Refused", 429: "Too many requests"}  # fmt: skip


@dataclass(frozen=True)
class Visit:
    """Who visits which hub. `session` is the cookie's token, empty for somebody unknown."""

    hub: Hub
    who: Identity
    session: str

    @property
    def csrf(self) -> str:
        """What this visitor's forms must carry."""
        return csrf_of(self.session)


Handler = Callable[[Request, Visit], Coroutine[Any, Any, Response]]
Form = dict[str, str]
FormHandler = Callable[[Request, Visit, Form], Coroutine[Any, Any, Response]]


def page(handler: Handler) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """An endpoint whose errors are pages too."""

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        visit = Visit(hub_of(request), ANONYMOUS, "")
        try:
            visit = await _visit(request)
            return await handler(request, visit)
        except MovedRepo as moved:
            return redirect(repo_url(moved.now))
        except Exception as error:
            if not isinstance(error, NomoatError):
                visit.hub.log.exception("%s %s", request.method, request.url.path)
            return _problem_page(request, visit, problem_of(error))

    return endpoint


def form(handler: FormHandler) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """An endpoint for a form of somebody who is logged in: read, and its origin proven."""

    async def checked(request: Request, visit: Visit) -> Response:
        fields = await read_form(request)
        if not visit.session:
            raise UnauthorizedError("you are not logged in", "log in, then send it again")
        if not hmac.compare_digest(fields.get("csrf", ""), visit.csrf):
            raise ForbiddenError(
                "this form is not of this session", "go back, reload the page, send it again"
            )
        return await handler(request, visit, fields)

    return page(functools.wraps(handler)(checked))


def api(handler: Handler) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """An endpoint for a page's own script: it proves its origin with a header, and errors are JSON."""

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        visit = Visit(hub_of(request), ANONYMOUS, "")
        try:
            visit = await _visit(request)
            visit.who.require_known()
            if not hmac.compare_digest(request.headers.get("x-csrf-token", ""), visit.csrf):
                raise ForbiddenError("this request is not of this session", "reload the page")
            return await handler(request, visit)
        except Exception as error:
            if not isinstance(error, NomoatError):
                visit.hub.log.exception("%s %s", request.method, request.url.path)
            problem = problem_of(error)
            content = {"error": problem.message, "hint": problem.hint, "code": problem.code}
            return json_response(content, hub_status_of(problem))

    return endpoint


async def read_form(request: Request) -> Form:
    """The fields of a posted form; of several with one name the last."""
    content = (await read_limited(request, _MOST_FORM_BYTES)).decode("utf-8", "replace")
    return {name: values[-1] for name, values in parse_qs(content, max_num_fields=200).items()}


async def read_limited(request: Request, most_bytes: int) -> bytes:
    """The body. Raises `HttpProblem` where it is larger."""
    parts: list[bytes] = []
    left = most_bytes
    async for part in request.stream():
        left -= len(part)
        if left < 0:
            raise HttpProblem("too_large", f"more than {most_bytes:,} bytes", "send less at once")
        parts.append(part)
    return b"".join(parts)


def render(request: Request, visit: Visit, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page."""
    known = {"request": request, "visit": visit, "who": visit.who, "csrf": visit.csrf, "path": request.url.path,
             "query_with": functools.partial(query_with, request),
             "picture_url": functools.partial(pictures.picture_url, visit.hub)}  # fmt: skip
    html = _environment().get_template(template).render(known | context)
    return HTMLResponse(html, status, page_headers(visit))


def page_headers(visit: Visit) -> dict[str, str]:
    """What keeps a page to itself."""
    images = f"'self' {visit.hub.config.files_url} data:".replace("  ", " ")
    policy = (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; connect-src 'self'; "
        f"img-src {images}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        # With 'no-referrer' a form would name no origin, and be refused.
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "private, no-store" if visit.who.known else "no-cache",
        "Vary": "Cookie",
    }


def redirect(path: str) -> Response:
    """Go there, by GET. `path` is one of this hub's own."""
    return RedirectResponse(path, 303)


def repo_url(repo: Repo | RepoName, *rest: str) -> str:
    """The address of a repository's page, or of one below it; each of `rest` is quoted, slashes stay."""
    name = repo.name if isinstance(repo, Repo) else repo
    front = "/datasets/" if name.kind == "dataset" else "/"
    return front + "/".join(quote(part) for part in (name.owner, name.name, *rest))


async def _visit(request: Request) -> Visit:
    hub, session = hub_of(request), session_of(request)
    if not session:
        return Visit(hub, ANONYMOUS, "")
    try:
        return Visit(hub, await hub.call(hub.registry.accounts.identify, session), session)
    except UnauthorizedError:
        return Visit(hub, ANONYMOUS, "")


def _problem_page(request: Request, visit: Visit, problem: NomoatError) -> Response:
    status = hub_status_of(problem)
    if status == 401 and not visit.who.known and getattr(problem, "hf_code", None):
        status = 404  # to somebody unknown, what is private is not there; a browser would ask for a password
    title = _TITLES.get(status, "A fault of this hub")
    return render(request, visit, "problem.html", status, title=title, problem=problem)


def query_with(request: Request, **changes: str | None) -> str:
    """The address of this page with some of its query changed; None takes a field away."""
    pairs = [(name, value) for name, value in request.query_params.multi_items() if name not in changes]
    pairs += [(name, value) for name, value in changes.items() if value]
    return f"{request.url.path}?{urlencode(pairs)}" if pairs else request.url.path


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nomoat.server.hub"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(words.FILTERS)
    environment.globals.update(
        asset=asset_url, repo_url=repo_url, fingerprint=fingerprints.fingerprint, quote=quote
    )
    return environment
