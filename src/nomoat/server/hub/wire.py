"""Between HTTP and Python values on a hub: bodies with caps and deadlines, addresses, dates, pages of lists."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from nomoat.server.errors import HttpProblem
from nomoat.server.hub.auth import hub_of
from nomoat.server.hub.hub import Limits
from nomoat.server.wire import json_response
from nomoat.share.names import MAIN

__all__ = [
    "base_url",
    "body_parts",
    "decode_json",
    "flag",
    "iso_time",
    "page_response",
    "path_segments",
    "read_buffer",
    "read_content",
    "read_json",
    "split_revision",
]

_REF_KINDS = {"heads", "tags", "pr", "convert"}


async def body_parts(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `HttpProblem` where the client stops or dawdles in the middle of it."""
    stream, begun, size = request.stream(), time.monotonic(), 0
    while True:
        try:
            async with asyncio.timeout(limits.part_seconds):
                part = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise HttpProblem("request_timeout", "the body did not come in time", "send it again") from error
        size += len(part)
        seconds = time.monotonic() - begun
        if seconds > limits.part_seconds and size < seconds * limits.slowest_bytes_per_second:
            raise HttpProblem(
                "request_timeout", "the body comes too slowly", "send it on a better connection"
            )
        if part:
            yield part


async def read_content(request: Request, most_bytes: int) -> bytes:
    """The whole body, of at most so many bytes."""
    return bytes(await read_buffer(request, most_bytes))


async def read_buffer(request: Request, most_bytes: int) -> bytearray:
    """As `read_content`, without a second copy of it."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > most_bytes:
        raise _too_large(most_bytes)
    content = bytearray()
    async for part in body_parts(request, hub_of(request).config.limits):
        if len(content) + len(part) > most_bytes:
            raise _too_large(most_bytes)
        content += part
    return content


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object."""
    value = decode_json(await read_content(request, hub_of(request).config.limits.json_bytes))
    if not isinstance(value, dict):
        raise HttpProblem("bad_input", "the body must be a JSON object")
    return value


def decode_json(content: bytes) -> Any:
    """The value; an empty body is an empty object. Raises `HttpProblem`."""
    try:
        return msgspec.json.decode(content or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpProblem("bad_input", f"the body is no JSON: {error}") from error


def path_segments(request: Request, skip: int) -> list[str]:
    """The parts of the address's path after the first `skip`, decoded one by one: `%2F` in a part divides nothing."""
    raw: bytes = request.scope["raw_path"]
    return [unquote(part) for part in raw.decode("ascii", "replace").split("/")[1 + skip :]]


def split_revision(segments: list[str]) -> tuple[str, str]:
    """`(revision, path)` of the parts that follow `resolve`, `tree` and the like."""
    revision, rest = segments[0] if segments else "", segments[1:]
    if revision == "refs" and len(rest) > 1 and rest[0] in _REF_KINDS:  # not every client encodes the slashes
        revision, rest = "/".join([revision, *rest[:2]]), rest[2:]
    return MAIN if revision == "HEAD" else revision, "/".join(rest).strip("/")


def base_url(request: Request) -> str:
    """The hub's own address as the client knows it, without a slash at the end."""
    configured = hub_of(request).config.public_url
    return configured or f"{request.url.scheme}://{request.headers.get('host', '')}"


def iso_time(milliseconds: int) -> str:
    """Unix milliseconds as clients read dates."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"


def flag(value: str | None) -> bool:
    """Whether a parameter says yes."""
    return (value or "").lower() in {"1", "true", "yes", "on"}


def page_response(
    request: Request, content: list[Any], following: Iterable[tuple[str, str]] | None
) -> Response:
    """One page of a list; `following` are the parameters that lead to the next one, which a Link header names."""
    response = json_response(content)
    if following is not None:
        changed = dict(following)
        kept = [(name, value) for name, value in request.query_params.multi_items() if name not in changed]
        query = urlencode([*kept, *changed.items()])
        path = request.scope["raw_path"].decode("ascii", "replace")
        response.headers["Link"] = f'<{base_url(request)}{path}?{query}>; rel="next"'
    return response


def _too_large(most_bytes: int) -> HttpProblem:
    return HttpProblem("too_large", f"the body is larger than {most_bytes:,} bytes", "send less at once")
