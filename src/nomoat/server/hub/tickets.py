"""Tickets: addresses that let their holder send one blob for some hours, as uploads come without a token.

A ticket is signed with a secret that the registry keeps. It names the digest and size that it is for, so whoever
finds one can send nothing but what was meant to be sent.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time

import msgspec

from nomoat.server.errors import HttpProblem
from nomoat.share.registry.database import Database
from nomoat.share.registry.schema import properties

__all__ = ["Ticket", "Tickets"]

_SECRET = "ticket_secret"
_MAC_BYTES = 24


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """Permission of a user to send a blob for a repository, until `expires` (Unix seconds)."""

    user_id: int
    repo_id: int
    owner_id: int
    digest: str
    size_bytes: int
    expires: int


class Tickets:
    """Makes and reads tickets."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._secret = b""

    def sign(self, ticket: Ticket) -> str:
        """The ticket as a part of an address."""
        content = msgspec.json.encode(ticket)
        return _text(self._mac(content) + content)

    def read(self, text: str) -> Ticket:
        """The ticket. Raises `HttpProblem` where it is not one of this hub, or too old."""
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            mac, content = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
            if not hmac.compare_digest(mac, self._mac(content)):
                raise ValueError("not signed here")
            ticket = msgspec.json.decode(content, type=Ticket)
        except (ValueError, msgspec.MsgspecError) as error:
            raise HttpProblem("forbidden", "this address was not made here", "ask for a new one") from error
        if ticket.expires < time.time():
            raise HttpProblem("forbidden", "this address is no longer valid", "ask for a new one")
        return ticket

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._key(), content, hashlib.sha256)[:_MAC_BYTES]

    def _key(self) -> bytes:
        if not self._secret:
            row = {"name": _SECRET, "value": secrets.token_hex(32)}
            if self._database.property(_SECRET) is None:
                with self._database.write() as connection:
                    connection.execute(self._database.insert_missing(properties).values(row))
            self._secret = bytes.fromhex(self._database.property(_SECRET) or "")
        return self._secret


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
