"""Announces things by multicast DNS (RFC 6762, 6763), and takes the announcement back."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from collections.abc import Sequence

from zeroconf import Error, IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from nomoat.share.lan.offers import SERVICE_TYPE, txt_record
from nomoat.share.things import Thing

__all__ = ["Announcement"]

_LONGEST_LABEL = 63  # bytes, RFC 1035
_ROOM_FOR_NUMBER = 6


class Announcement:
    """Things offered at a port of some addresses of this machine. Use it within one running event loop."""

    def __init__(self, things: Sequence[Thing], addresses: Sequence[str], port: int) -> None:
        self._things, self._addresses, self._port = things, list(addresses), port
        self._zeroconf: AsyncZeroconf | None = None

    async def begin(self) -> list[str]:
        """Announce; returns the names of the services, changed where somebody else has them already.

        Raises `OSError` where this machine or its network has no multicast.
        """
        if not self._addresses:
            raise OSError("no address of version 4 is shared")
        self._zeroconf = AsyncZeroconf(interfaces=self._addresses, ip_version=IPVersion.V4Only)
        target = f"nomoat-{secrets.token_hex(4)}.local."  # of its own: the machine's own name may be taken
        infos = [self._info(thing, target) for thing in self._things]
        try:
            for info in infos:  # one after the other, so that two things of one name get two names
                await self._zeroconf.async_register_service(info, allow_name_change=True)
        except Error as error:
            await self.withdraw()
            raise OSError(f"the announcement was refused ({error})") from error
        return [info.name.removesuffix(f".{SERVICE_TYPE}") for info in infos]

    async def withdraw(self) -> None:
        """Tell everyone that the things are gone."""
        if self._zeroconf is not None:
            zeroconf, self._zeroconf = self._zeroconf, None
            await asyncio.wait_for(_close(zeroconf), timeout=5)

    def _info(self, thing: Thing, target: str) -> AsyncServiceInfo:
        return AsyncServiceInfo(
            SERVICE_TYPE, f"{_label(thing.name, self._port)}.{SERVICE_TYPE}", port=self._port,
            properties=txt_record(thing), server=target, parsed_addresses=self._addresses,
        )  # fmt: skip


async def _close(zeroconf: AsyncZeroconf) -> None:
    await zeroconf.async_unregister_all_services()
    await zeroconf.async_close()


def _label(name: str, port: int) -> str:
    """The instance's name for people: `smollm2 on kitchen 8123`, one label of DNS. The whole name is in the TXT record.

    With the port two of one computer differ at once: that the second notices the first cannot be relied on.
    """
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname().partition(".")[0]) or "a computer"
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name)
    host = host[:24]
    return f"{plain[: _LONGEST_LABEL - _ROOM_FOR_NUMBER - len(host) - 10]} on {host} {port}"
