"""Errors of a hub as HTTP, with the headers by which Hugging Face's clients tell them apart."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from nomoat.base.errors import InputError, NomoatError, NotFoundError
from nomoat.server.errors import HttpProblem, headers_of, problem_of, status_of
from nomoat.share.errors import BadPathError
from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import ANONYMOUS, Identity

__all__ = [
    "ENTRY",
    "GATED",
    "REPO",
    "REVISION",
    "HubProblem",
    "MovedRepo",
    "error_handlers",
    "error_response",
    "hub_status_of",
    "note_refusal",
]

GATED = "GatedRepo"
_STATUS = {
    "gated": 403, "conflict": 409, "quota": 413, "refused": 422, "taken_down": 410, "damaged_blob": 500,
    "conflict_412": 412, "too_many_requests": 429,
}  # fmt: skip
_NOTED = {
    "refused",
    "quota",
    "too_large",
    "request_timeout",
    "too_many_requests",
    "overloaded",
    "token_in_url",
}
_LOG = logging.getLogger("nomoat.hub")
# The one text by which clients know that it was not the network.
_DISABLED = "Access to this resource is disabled."
_BAD_TOKEN = "Invalid credentials in Authorization header"


class HubProblem(NomoatError):
    """An error with its HTTP status and the code that Hugging Face's clients read."""

    def __init__(
        self, code: str, message: str, hint: str = "", *, status: int = 0, hf_code: str = ""
    ) -> None:
        super().__init__(message, hint)
        self.code, self.status, self.hf_code = code, status, hf_code
        self.headers: dict[str, str] = {}

    @classmethod
    def of(cls, error: NomoatError, hf_code: str, status: int) -> HubProblem:
        """`error` with a status and a code for the clients."""
        return cls(error.code, error.message, error.hint, status=status, hf_code=hf_code)


class MovedRepo(Exception):
    """The repository has another name now."""

    def __init__(self, before: RepoName, now: RepoName) -> None:
        super().__init__(f"{before} is {now} now")
        self.before, self.now = before, now


@dataclass(frozen=True)
class _Missing:
    """What is not there."""

    hf_code: str

    @contextlib.contextmanager
    def instead(self, who: Identity | None = None) -> Iterator[None]:
        """Turn a `NotFoundError` into this. To somebody unknown a private repository and none look alike: 401."""
        try:
            yield
        except (NotFoundError, InputError) as error:
            status = 401 if who == ANONYMOUS else 404
            raise HubProblem(
                "not_found", error.message, error.hint, status=status, hf_code=self.hf_code
            ) from error


REPO, REVISION, ENTRY = _Missing("RepoNotFound"), _Missing("RevisionNotFound"), _Missing("EntryNotFound")


def hub_status_of(error: NomoatError) -> int:
    """The HTTP status of an error."""
    own = getattr(error, "status", 0)
    return own or _STATUS.get(error.code, 0) or status_of(error)


def error_response(error: BaseException) -> Response:
    """The answer for an error: JSON and headers."""
    problem = problem_of(error)
    status = hub_status_of(problem)
    text = f"{problem.message} ({problem.hint})" if problem.hint else problem.message
    headers = headers_of(problem) | getattr(problem, "headers", {})
    if status == 401 and "WWW-Authenticate" not in headers:
        headers["WWW-Authenticate"] = "Bearer"
    if code := getattr(problem, "hf_code", ""):
        headers["X-Error-Code"] = code
    headers["X-Error-Message"] = _header_text(problem, text)
    # The hint once more by itself: nomoat's client shows its own one in its place, where it knows better.
    body = msgspec.json.encode({"error": text, "code": problem.code, "hint": problem.hint})
    return Response(body, status, headers, "application/json")


def note_refusal(scope: Mapping[str, Any], error: BaseException, *, always: bool = False) -> None:
    """Leave a line in the log where somebody sent what may not come in. Never the query, which may hold secrets."""
    problem = problem_of(error)
    if always or problem.code in _NOTED or isinstance(problem, BadPathError) or _leads_out(scope["path"]):
        client = (scope.get("client") or ("?",))[0]
        number = scope.get("state", {}).get("request_id", "")
        _LOG.warning(
            "refused %s: %s %s %r: %.500r",
            number,
            client,
            scope["method"],
            scope["path"][:300],
            problem.message,
        )


def _leads_out(path: str) -> bool:
    """Whether an address tries to leave its folder: nobody's client asks for that."""
    return "\\" in path or "\0" in path or ".." in path.split("/")


def error_handlers() -> dict[type[Exception], object]:
    """What Starlette calls for each kind of error."""

    async def answer(request: Request, error: Exception) -> Response:
        note_refusal(request.scope, error)
        return error_response(error)

    async def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = {404: "not_found", 405: "method_not_allowed"}.get(status, "bad_input")
        problem = HttpProblem(code, f"there is nothing at {request.method} {request.url.path[:200]}")
        note_refusal(request.scope, problem)
        return error_response(problem)

    async def moved(request: Request, error: Exception) -> Response:
        assert isinstance(error, MovedRepo)
        path = request.scope["raw_path"].decode("ascii", "replace")
        place = path.lower().find(f"/{quote(str(error.before))}".lower())
        target = f"{path[:place]}/{quote(str(error.now))}{path[place + len(str(error.before)) + 1 :]}"
        query = f"?{request.url.query}" if request.url.query else ""
        # Relative: clients follow such a redirect with the token, others without.
        return Response(status_code=307, headers={"Location": f"{target}{query}"})

    return {NomoatError: answer, HTTPException: http, MovedRepo: moved}


def _header_text(problem: NomoatError, text: str) -> str:
    if problem.code == "taken_down":
        return _DISABLED
    if problem.code == "unauthorized" and problem.message.startswith("nobody is known"):
        return _BAD_TOKEN
    # A header holds one line of printable ASCII; the body has the text as it is.
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)[:1000]
