"""What a hub's refusals mean: HTTP status and `X-Error-Code` to an error with its remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nomoat.base.errors import InputError, NomoatError, NotFoundError
from nomoat.base.plain_text import printable
from nomoat.share.client.references import HubAddress
from nomoat.share.errors import (
    ConflictError,
    ForbiddenError,
    GatedError,
    QuotaError,
    RefusedError,
    TakenDownError,
    UnauthorizedError,
)

__all__ = ["UnreachableError", "refusal_of"]

_LONGEST = 1000
_DISABLED = "Access to this resource is disabled."
_BY_STATUS: dict[int, type[NomoatError]] = {
    400: InputError, 401: UnauthorizedError, 403: ForbiddenError, 404: NotFoundError, 409: ConflictError,
    410: TakenDownError, 412: ConflictError, 413: QuotaError, 422: RefusedError, 451: TakenDownError,
    507: QuotaError,
}  # fmt: skip
_CODES: dict[str, type[NomoatError]] = {
    "RepoNotFound": NotFoundError, "RevisionNotFound": NotFoundError, "EntryNotFound": NotFoundError,
    "GatedRepo": GatedError,
}  # fmt: skip
_HINTS: dict[type[NomoatError], str] = {
    UnauthorizedError: "nomoat login {host}",
    NotFoundError: "check the name; if it is private: nomoat login {host}",
    GatedError: "ask its owner for access on the repository's page, then: nomoat login {host}",
    ConflictError: "look at what is there now, then send it again",
}


class UnreachableError(NomoatError):
    """The hub did not answer, or not to the end."""

    code = "unreachable"


def refusal_of(status: int, headers: Mapping[str, str], body: bytes, hub: HubAddress) -> NomoatError:
    """The error for an answer of 400 and above. It carries `status` and `retry_after_seconds`."""
    code, (text, hint) = headers.get("X-Error-Code", ""), _text(headers, body)
    kind = _CODES.get(code) or _BY_STATUS.get(status, NomoatError)
    if text == _DISABLED:
        kind = TakenDownError
    usual = "try again later" if status >= 500 or status == 429 else ""
    hint = _HINTS.get(kind, "").format(host=hub.host) or hint or usual
    error = kind(f"{hub.host}: {text or f'answered with status {status}'}", hint)
    vars(error).update(
        status=status, hf_code=code, retry_after_seconds=_seconds(headers.get("Retry-After", ""))
    )
    return error


def _text(headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """The hub's own words, and the hint that nomoat's hub has put behind them and beside them, if any.

    They are shown to a person, so nothing in them may steer a terminal.
    """
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    content = content if isinstance(content, dict) else {}
    found, hint = content.get("error", ""), content.get("hint", "")
    found = found.get("message", "") if isinstance(found, dict) else found
    text = str(found or headers.get("X-Error-Message", ""))
    hint = hint if isinstance(hint, str) and hint and text.endswith(f" ({hint})") else ""
    text = text.removesuffix(f" ({hint})") if hint else text
    return printable(text)[:_LONGEST], printable(hint)[:_LONGEST]


def _seconds(text: str) -> float:
    return float(text) if text.isdigit() else 0.0
