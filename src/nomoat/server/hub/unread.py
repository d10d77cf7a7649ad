"""Answers to requests whose body nobody wants to read: sent at once, and then the connection is closed gently.

A server that closes at once while bytes come in makes the client's system throw the answer away.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

__all__ = ["Exchange"]

_LINGER_SECONDS = 2.0


class Exchange:
    """One request and its answer: `receive` and `send` for the application, wrapped around the server's."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        headers = Headers(scope=scope)
        self._receive, self._send, self._request_id = receive, send, request_id
        self._unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._refused = False
        self.started = False

    async def receive(self) -> Message:
        """As the server's; notes whether the body is read."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """As the server's; marks the answer, and lingers where it refuses a body."""
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            headers.setdefault("X-Content-Type-Options", "nosniff")
            self._refused = self._unread and message["status"] >= 400
            if self._refused:
                headers["Connection"] = "close"
        elif self._refused and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while self._unread:
                    await self.receive()
        except TimeoutError:
            return
