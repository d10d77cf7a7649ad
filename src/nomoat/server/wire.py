"""Between HTTP and Python values: bodies in, JSON and event streams out, and what happens when the client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Send

from nomoat.base.errors import NomoatError
from nomoat.server.errors import BadRequest, HttpProblem, openai_error

__all__ = [
    "Body",
    "Operation",
    "client_of",
    "event_stream",
    "json_response",
    "read_body",
    "read_json",
    "while_connected",
]

T = TypeVar("T")
_MOST_BODY_BYTES = 32 << 20
_SECONDS_FOR_BODY_PART = 30.0
_SECONDS_OF_SILENCE = 15.0
_COMMENT = b":\n\n"  # server-sent events without a field: clients pass over them
_encode = msgspec.json.Encoder().encode


class Body(msgspec.Struct, omit_defaults=True):
    """What requests are made of. Unknown fields are ignored; those in `refused` are an error that says why.

    A refused field may still have the value that means "not used": null, false, or an empty list.
    """

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Field -> why it is not supported."""
        return {}


@dataclass(frozen=True)
class Operation:
    """One thing that the server does. Routes and the OpenAPI document are both made from these."""

    method: str
    path: str
    handler: Callable[..., Coroutine[Any, Any, Response]]
    """`handler(request)`, or `handler(request, body)` where there is a `body`."""
    summary: str
    body: type[Body] | None = None
    problem: Callable[[NomoatError], dict[str, Any]] = openai_error
    """How an error is written in this protocol."""
    streams: str = ""
    """Media type of the stream where the client may ask for one."""
    status: int = 200
    media_type: str = "application/json"
    answer: tuple[str, ...] = ("object",)
    """What kinds of JSON an answer may be."""
    tag: str = "openai"


async def read_json(request: Request) -> Any:
    """The request's JSON body; an object where there is none. Raises `BadRequest` or `HttpProblem`."""
    return _decoded(await _content(request))


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {error}") from error


async def read_body(request: Request, kind: type[T]) -> T:
    """The request's JSON body as a `kind`. Raises `BadRequest` or `HttpProblem`."""
    content = await _content(request)
    raw = _decoded(content)
    if not isinstance(raw, dict):
        raise BadRequest("the body must be a JSON object")
    for name, reason in getattr(kind, "refused", dict)().items():
        if raw.get(name) not in (None, False, [], {}, ""):
            raise BadRequest(f"{name!r} is not supported: {reason}", name)
    try:
        return msgspec.convert(raw, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        if "got `float`" not in str(error):
            raise BadRequest(str(error), _place(str(error))) from error
    try:  # many a program writes whole numbers as 40.0; a field that wants one may have it
        return msgspec.convert(msgspec.json.Decoder(float_hook=_whole).decode(content), kind)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error), _place(str(error))) from error


def _whole(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _place(problem: str) -> str | None:
    """The field that msgspec complains of, as `messages[0].role`."""
    place = re.search(r" - at `(?:key in )?\$\.?(.*)`$", problem)
    missing = re.match(r"Object missing required field `(.+?)`", problem)
    return ".".join(match[1] for match in (place, missing) if match and match[1]) or None


async def _content(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > _MOST_BODY_BYTES:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    stream = request.stream()
    while True:
        try:
            part = await asyncio.wait_for(anext(stream), _SECONDS_FOR_BODY_PART)
        except StopAsyncIteration:
            return b"".join(parts)
        except TimeoutError as error:
            raise HttpProblem("request_timeout", "the body did not come in time") from error
        size += len(part)
        if size > _MOST_BODY_BYTES:
            raise _too_large()
        parts.append(part)


def _too_large() -> HttpProblem:
    return HttpProblem(
        "too_large", f"the body is larger than {_MOST_BODY_BYTES >> 20} MiB", "send less at once"
    )


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client leaves. The body must have been read before."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.wait({task, watch})


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def json_response(content: Any, status: int = 200) -> Response:
    """`content` as JSON."""
    return Response(_encode(content), status, media_type="application/json")


def event_stream(
    parts: AsyncIterator[bytes],
    media_type: str = "text/event-stream",
    silence_seconds: float = _SECONDS_OF_SILENCE,
) -> Response:
    """A response that is sent as it comes. `parts` is closed when the client leaves.

    Where server-sent events are long in coming, because a prompt is read, comments say that the server is there:
    proxies and clients take a long silence for the end.
    """
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    if media_type == "text/event-stream":
        return _EventStream(_closing(parts), silence_seconds, headers)
    return StreamingResponse(_closing(parts), media_type=media_type, headers=headers)


class _EventStream(StreamingResponse):
    """Server-sent events that are never silent. A task beside them speaks, so that events cost nothing more."""

    def __init__(
        self, content: AsyncIterator[bytes], silence_seconds: float, headers: dict[str, str]
    ) -> None:
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._silence_seconds, self._spoken = silence_seconds, 0.0

    async def stream_response(self, send: Send) -> None:
        """Send all, and comments in between."""
        loop = asyncio.get_running_loop()

        async def speak(message: Message) -> None:
            self._spoken = loop.time()
            await send(message)

        async def break_silence() -> None:
            while True:
                left = self._spoken + self._silence_seconds - loop.time()
                if left > 0:
                    await asyncio.sleep(left)
                else:
                    await speak({"type": "http.response.body", "body": _COMMENT, "more_body": True})

        self._spoken = loop.time()
        breaking = asyncio.ensure_future(break_silence())
        try:
            await super().stream_response(speak)
        finally:
            breaking.cancel()


async def _closing(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with contextlib.AsyncExitStack() as stack:
        close = getattr(parts, "aclose", None)
        if close is not None:
            stack.push_async_callback(close)
        async for part in parts:
            yield part


def client_of(request: Request, user: str | None = None) -> str:
    """Whom the scheduler treats as one party: the user that the client names, else its connection."""
    return user or (f"{request.client.host}:{request.client.port}" if request.client else "")
