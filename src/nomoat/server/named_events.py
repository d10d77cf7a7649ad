"""Server-sent events with names, as Anthropic's API and OpenAI's responses have them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from nomoat.base.errors import NomoatError
from nomoat.server.errors import problem_of

__all__ = ["foreseen", "named_events"]

_encode = msgspec.json.Encoder().encode
Event = dict[str, Any]


async def named_events(
    parts: AsyncGenerator[Event, None], on_error: Callable[[NomoatError], Sequence[Event]]
) -> AsyncIterator[bytes]:
    """Each event under the name of its `type`. An error in the middle becomes the events of `on_error`."""
    async with aclosing(parts):
        try:
            async for part in parts:
                yield _named(part)
        except Exception as error:
            for part in on_error(foreseen(error)):
                yield _named(part)


def foreseen(error: Exception) -> NomoatError:
    """The error to tell a client in the middle of a stream; one that nobody foresaw goes to the log."""
    if not isinstance(error, NomoatError):
        logging.getLogger("nomoat.server").exception("a stream failed")
    return problem_of(error)


def _named(event: Event) -> bytes:
    name: str = event["type"]
    return b"event: " + name.encode() + b"\ndata: " + _encode(event) + b"\n\n"
