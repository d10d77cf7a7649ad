"""What a person reads when a hub cannot be reached, or refuses: no numbers of the operating system, each hint once."""

from __future__ import annotations

import errno
import json
import socket

import httpx
import pytest

from nomoat.base.errors import NotFoundError
from nomoat.share.client.connection import Connection
from nomoat.share.client.failures import words_of
from nomoat.share.client.references import HubAddress, parse_hub
from nomoat.share.client.refusals import UnreachableError, refusal_of


def _unreachable(address: HubAddress) -> UnreachableError:
    with (
        Connection(address, sleep=lambda _: None) as connection,
        pytest.raises(UnreachableError) as caught,
    ):
        connection.get("/api/models")
    return caught.value


def test_a_port_at_which_nothing_listens_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but it does not listen
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        error = _unreachable(parse_hub(host))
    assert error.message == f"nothing listens at {host}"
    assert "port" in error.hint and "nomoat hub serve" in error.hint


@pytest.mark.parametrize(
    ("cause", "message", "hint"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), "hub.example: there is no host of that name", "written"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "hub.example: nobody answers which address", "network"),
        (OSError(errno.ENETUNREACH, "x"), "hub.example:443: no way leads there", "network"),
        (OSError(errno.EIO, "Input/output error"), "hub.example:443: Input/output error", "network"),
    ],
)
def test_the_operating_system_s_errors_become_words(cause: OSError, message: str, hint: str) -> None:
    error = httpx.ConnectError(str(cause))
    error.__cause__ = cause
    found, remedy = words_of(error, httpx.URL("https://hub.example/api"))
    assert found.startswith(message) and hint in remedy and "Errno" not in found


def test_a_hint_is_told_once() -> None:
    hub = parse_hub("hub.example")
    text, hint = "no model is named a/b here", "check the name, or log in if it is private"

    def refused(status: int, **body: object) -> tuple[str, str]:
        error = refusal_of(status, {}, json.dumps(body).encode(), hub)
        return error.message, error.hint

    message, remedy = refused(404, error=f"{text} ({hint})", hint=hint)
    assert message == f"hub.example: {text}" and remedy.startswith("check the name; if it is private")
    assert refused(422, error="too wide (cut it)", hint="cut it") == ("hub.example: too wide", "cut it")
    assert refused(422, error="too wide (cut it)") == ("hub.example: too wide (cut it)", "")
    assert refused(422, error="too wide", hint="\x1b[2Jcut") == ("hub.example: too wide", "")
    assert isinstance(refusal_of(404, {}, b"[]", hub), NotFoundError)
