"""A connection that never asks for anything is told why it ends."""

from __future__ import annotations

import asyncio
import socket
from threading import Thread
from typing import Any

import pytest
import uvicorn

from nomoat.server import listening
from nomoat.server.listening import Connection, GracefulServer, listen_at


async def _app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    raise AssertionError("nobody asks for anything")


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nContent-Le"])
def test_who_sends_no_request_is_answered(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "SECONDS_FOR_REQUEST", 0.2)
    listener = listen_at("127.0.0.1", 0)
    server = GracefulServer(
        uvicorn.Config(_app, http=Connection, lifespan="off", log_level="error"), lambda: None
    )
    monkeypatch.setattr(GracefulServer, "capture_signals", uvicorn.Server.capture_signals)
    thread = Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        with socket.create_connection(listener.getsockname(), timeout=20) as connection:
            connection.sendall(sent)
            answer = connection.makefile("rb").read()
    finally:
        server.should_exit = True
        thread.join()
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"no request came in time" in body
