"""Fetching an address that somebody else chose, without reaching what only this machine can reach.

Every host, of every redirect too, is resolved here; a private address is refused, and the connection goes to the very
address that was looked at: a name that answers differently the second time changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable

import httpx

from nomoat.share.errors import RefusedError

__all__ = ["check_address", "guarded_client", "guarded_transport"]

_MOST_REDIRECTS = 5
_SECONDS = 20.0
_IPV6_OF_IPV4 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"),
                 ipaddress.ip_network("2002::/16"), ipaddress.ip_network("::/96"))  # fmt: skip
Resolve = Callable[[str, int], list[str]]


def guarded_client(*, allowed_hosts: Iterable[str] = (), resolve: Resolve | None = None) -> httpx.Client:
    """A client that follows at most five redirects and refuses addresses that are not public.

    `allowed_hosts` are names that the owner of this machine listed himself. Raises `RefusedError` when it is used.
    """
    transport = guarded_transport(allowed_hosts=allowed_hosts, resolve=resolve)
    return httpx.Client(transport=transport, follow_redirects=True, max_redirects=_MOST_REDIRECTS, timeout=_SECONDS,
                        trust_env=False)  # fmt: skip


def guarded_transport(
    *, allowed_hosts: Iterable[str] = (), resolve: Resolve | None = None
) -> httpx.BaseTransport:
    """The same for a client that follows redirects, waits and tries again by rules of its own."""
    return _Guarded(frozenset(host.lower() for host in allowed_hosts), resolve or _resolve)


def check_address(address: str) -> None:
    """Raise `RefusedError` where an IP address is not one of the public internet."""
    found: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found
    if not found.is_global or found.is_multicast or any(
        isinstance(found, ipaddress.IPv6Address) and found in network for network in _IPV6_OF_IPV4
    ):  # fmt: skip
        raise RefusedError(f"{address} is no address of the public internet", "name a public host")


class _Guarded(httpx.BaseTransport):
    """httpx asks it for every request, those of redirects among them."""

    def __init__(self, allowed: frozenset[str], resolve: Resolve) -> None:
        self._allowed, self._resolve = allowed, resolve
        # No connection is kept: the next name may live at the same address.
        self._inner = httpx.HTTPTransport(retries=0, limits=httpx.Limits(max_keepalive_connections=0))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        if url.scheme not in {"http", "https"}:
            raise RefusedError(f"{url.scheme}: is no scheme to fetch from", "use http or https")
        if url.host.lower() in self._allowed:
            return self._inner.handle_request(request)
        addresses = self._resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
        if not addresses:
            raise RefusedError(f"{url.host[:120]} has no address", "check the name")
        for address in addresses:
            check_address(address)
        # The name stays in the Host header and in the TLS handshake; the connection goes to the address.
        request.extensions = {**request.extensions, "sni_hostname": url.host}
        request.url = url.copy_with(host=addresses[0])
        try:
            return self._inner.handle_request(request)
        finally:
            request.url = url  # redirects are relative to the name

    def close(self) -> None:
        self._inner.close()


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RefusedError(f"{host[:120]} is not known ({error})", "check the address") from error
    return [str(each[4][0]) for each in found]
