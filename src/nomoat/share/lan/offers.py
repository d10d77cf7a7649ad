"""An offer in this network: which thing, and at whose address. In DNS-SD it is a service of type `_nomoat._tcp`.

The TXT record has `v` (version of the protocol, 1), `name`, `kind` (model or adapter), `digest` and `size` (bytes of
all files). Nothing in it is believed: the digest decides in the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nomoat.share.names import is_digest
from nomoat.share.things import Thing, ThingKind
from nomoat.store.names import is_name

__all__ = ["PROTOCOL_VERSION", "SERVICE_TYPE", "Offer", "offer_of", "txt_record"]

SERVICE_TYPE = "_nomoat._tcp.local."
PROTOCOL_VERSION = "1"
_SIZE = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, order=True)
class Offer:
    """A thing that a peer has. `peer` is what to call it for people, `url` its root without a slash at the end."""

    name: str
    kind: ThingKind
    digest: str
    size_bytes: int
    peer: str
    url: str


def txt_record(thing: Thing) -> dict[str, str]:
    """The TXT record of a thing."""
    return {
        "v": PROTOCOL_VERSION,
        "name": thing.name,
        "kind": thing.kind,
        "digest": thing.digest,
        "size": str(thing.size_bytes),
    }


def offer_of(record: Mapping[str, str], peer: str, url: str) -> Offer | None:
    """The offer of a TXT record; None where it is of another version or not well-formed."""
    name, digest, size = record.get("name", ""), record.get("digest", ""), record.get("size", "")
    kind: ThingKind | None = {"model": "model", "adapter": "adapter"}.get(record.get("kind", ""))  # type: ignore[assignment]
    if record.get("v") != PROTOCOL_VERSION or kind is None:
        return None
    if not is_name(name) or not is_digest(digest) or not _SIZE.fullmatch(size):
        return None
    return Offer(name, kind, digest, int(size), peer, url)
