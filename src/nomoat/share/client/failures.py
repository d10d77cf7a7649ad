"""Why a hub could not be reached, in words: the operating system's own are for programs."""

from __future__ import annotations

import errno
import re
import socket

import httpx

__all__ = ["plain_words", "words_of"]

_NETWORK = "check the network of this machine, then run the same command again"
_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}


def words_of(error: Exception, url: httpx.URL) -> tuple[str, str]:
    """`(message, hint)` for what httpx raised about `url`."""
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    place = f"[{url.host}]:{port}" if ":" in url.host else f"{url.host}:{port}"
    cause = _cause(error)
    if isinstance(cause, socket.gaierror):
        if cause.errno == socket.EAI_AGAIN:
            return f"{url.host}: nobody answers which address that name has", _NETWORK
        return f"{url.host}: there is no host of that name", "check how the hub's name is written"
    if isinstance(cause, ConnectionRefusedError):
        return f"nothing listens at {place}", "check the port, or start the hub there: nomoat hub serve"
    if isinstance(cause, OSError) and cause.errno in _NO_ROUTE:
        return f"{place}: no way leads there from this network", _NETWORK
    if isinstance(error, httpx.TimeoutException):
        return f"{place}: no answer in time", "check the network and the hub's name"
    return f"{place}: {plain_words(error)}", "check the network and the hub's name"


def plain_words(error: Exception) -> str:
    """The error's own words, without the operating system's number."""
    return re.sub(r"\[Errno -?\d+\] ", "", str(error)) or "the connection broke"


def _cause(error: BaseException) -> BaseException:
    """The operating system's error at the bottom, or `error` where there is none."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__ or found.__context__
    return found or error
