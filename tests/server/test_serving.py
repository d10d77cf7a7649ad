"""Where a server listens, and how its answers leave."""

from __future__ import annotations

import asyncio
import socket

import pytest

from nomoat.base.errors import InputError
from nomoat.server.serving import ServeOptions, listen


async def _accepted_without_delay(listener: socket.socket) -> int:
    """TCP_NODELAY of the first accepted connection."""
    found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(accept, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        delay = await found
        writer.close()
        return delay


def test_parts_of_an_answer_leave_at_once() -> None:
    assert asyncio.run(_accepted_without_delay(listen(ServeOptions(port=0)))) != 0


def test_a_port_that_is_taken_is_named_with_a_way_out() -> None:
    with listen(ServeOptions(port=0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match=str(port)) as caught:
            listen(ServeOptions(port=port))
        assert "--port" in caught.value.hint


def test_a_host_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError):
        listen(ServeOptions(host="300.1.2.3", port=0))
