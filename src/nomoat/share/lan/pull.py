"""`lan/NAME` and `lan/sha256:...`: from a reference to a model or adapter in the store."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.base.manifests import MANIFEST_NAME, read_manifest
from nomoat.base.progress import Progress
from nomoat.share.errors import PeersError
from nomoat.share.lan.discovery import discover
from nomoat.share.lan.fetch import Fetched, fetch
from nomoat.share.lan.offers import Offer, offer_of
from nomoat.share.lan.peers import Peer, PeerTrouble
from nomoat.share.names import is_digest
from nomoat.share.things import ThingKind, files_of_manifest, find_thing
from nomoat.store.adapters import ADAPTER_KIND
from nomoat.store.names import check_name, is_name
from nomoat.store.store import Store

__all__ = ["PulledThing", "is_lan_reference", "pull_lan", "resolve_lan"]

_PREFIX = "lan/"
_REMEDY = ("on the machine that has it: nomoat share NAME; where the network carries no multicast, name the address "
           "that it shows: lan/ADDRESS:PORT/NAME")  # fmt: skip
_STALE_SECONDS = 14 * 24 * 3600


@dataclass(frozen=True)
class PulledThing:
    """What arrived. `base_digest` is the base that an adapter needs, empty for a model or where it does not say."""

    name: str
    kind: ThingKind
    digest: str
    size_bytes: int
    path: Path
    base_digest: str
    fetched: Fetched
    already_there: bool = False


def is_lan_reference(text: str) -> bool:
    """Whether `text` asks for something of this network: `lan/...`."""
    return text.startswith(_PREFIX)


def resolve_lan(reference: str, seconds: float = 4.0, interfaces: Sequence[str] | None = None) -> list[Offer]:
    """All offers of the one thing that a reference means; never empty.

    `reference` is `lan/NAME`, `lan/sha256:...` or, where the network carries no multicast, `lan/ADDRESS:PORT/NAME`.
    `interfaces` as for `discover`. Raises `NotFoundError` where nobody offers it, `InputError` where different things
    are offered under that name or the reference is none, `PeersError` where the address does not answer.
    """
    address, _, wanted = reference.removeprefix(_PREFIX).rpartition("/")
    well_formed = is_digest(wanted) if wanted.startswith("sha256:") else is_name(wanted)
    if not is_lan_reference(reference) or not well_formed:
        raise InputError(f"{reference[:120]!r} names nothing in this network",
                         "write lan/NAME, lan/sha256:DIGEST or lan/ADDRESS:PORT/NAME")  # fmt: skip

    def matches(offer: Offer) -> bool:
        return wanted in (offer.name, offer.digest)

    offers = _listed_at(address) if address else discover(seconds, matches, interfaces)
    found = [offer for offer in offers if matches(offer)]
    if not found:
        raise NotFoundError(f"nobody in this network offers {wanted!r}", _REMEDY)
    digests = sorted({offer.digest for offer in found})
    if len(digests) > 1:
        told = "; ".join(f"{offer.peer}: {offer.kind} {offer.digest[:19]}..." for offer in found)
        raise InputError(f"different things are offered as {wanted!r} ({told})",
                         f"name one by its digest, such as lan/{digests[0]}")  # fmt: skip
    return found


def pull_lan(
    offers: Sequence[Offer], store: Store, progress: Progress, name: str | None = None
) -> PulledThing:
    """Fetch the thing of `resolve_lan`, verify every byte of it and take it into the store under `name`.

    An interrupted call goes on where it stopped. Raises as `fetch`, and `InputError` where the name stands for
    something else, before anything is fetched.
    """
    offer, name = offers[0], check_name(name or offers[0].name)
    if (known := _known(store, name, offer, progress)) is not None:
        return known
    staging = store.home / "cache" / "lan"
    _sweep(staging)
    folder = staging / offer.digest.removeprefix("sha256:")
    take = _pull_model if offer.kind == "model" else _pull_adapter
    pulled = take(offers, store, folder, name, progress)
    shutil.rmtree(folder, ignore_errors=True)
    return pulled


def _known(store: Store, name: str, offer: Offer, progress: Progress) -> PulledThing | None:
    """What the store has under that name, if it is the same. Raises `InputError` where it is another."""
    if not (store.has_model(name) if offer.kind == "model" else name in store.adapters()):
        return None
    base = ""
    if offer.kind == "model":
        model = store.resolve(name, progress)
        digest, path = model.digest, model.path
    else:
        path = store.resolve_adapter(name)
        thing = find_thing(store, str(path), progress).thing
        digest, base = thing.digest, thing.base_digest
    if digest != offer.digest:
        raise InputError(f"{name!r} already names another {offer.kind} here",
                         f"choose another name, or remove it first: nomoat rm {name}")  # fmt: skip
    return PulledThing(name, offer.kind, digest, offer.size_bytes, path, base, Fetched(), already_there=True)


def _pull_model(
    offers: Sequence[Offer], store: Store, folder: Path, name: str, progress: Progress
) -> PulledThing:
    digest = offers[0].digest
    file = folder / "model.gguf"
    fetched = fetch(digest, offers, file, progress)
    model = store.import_file(file, name, progress, digest=digest)
    return PulledThing(name, "model", digest, model.size_bytes, model.path, "", fetched)


def _pull_adapter(
    offers: Sequence[Offer], store: Store, folder: Path, name: str, progress: Progress
) -> PulledThing:
    digest = offers[0].digest
    total = fetch(digest, offers, folder / MANIFEST_NAME, progress)
    manifest = read_manifest(folder, ADAPTER_KIND)
    files = files_of_manifest(manifest, f"the manifest of {name!r}")
    for file in files:
        fetched = fetch(file.digest, offers, folder / file.path, progress)
        total.resumed_bytes += fetched.resumed_bytes
        total.dropped |= fetched.dropped
        for peer, size_bytes in fetched.bytes_by_peer.items():
            total.bytes_by_peer[peer] = total.bytes_by_peer.get(peer, 0) + size_bytes
    path = store.import_adapter(folder, name)
    size_bytes = sum(file.size_bytes for file in files)
    return PulledThing(name, "adapter", digest, size_bytes, path, manifest.parents.get("base", ""), total)


def _listed_at(address: str) -> list[Offer]:
    host, _, port = address.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError as error:
        raise InputError(
            f"{address[:80]!r} is no address", "write it as ADDRESS:PORT, such as 192.168.1.5:4321"
        ) from error
    return asyncio.run(_list(address, f"http://{host}:{number}"))


async def _list(peer_name: str, url: str) -> list[Offer]:
    try:
        async with Peer(peer_name, url) as peer:
            content = await peer.things()
    except PeerTrouble as trouble:
        raise PeersError(
            f"{peer_name}: {trouble}", "look whether `nomoat share` still runs there"
        ) from trouble
    things = content.get("things") if isinstance(content, dict) else None
    if not isinstance(things, list):
        raise BadFileError(f"{url}/things.json", "things", "is no list")
    records = [thing for thing in things if isinstance(thing, dict)]
    offers = (offer_of({"v": str(content.get("v")), **_texts(record)}, peer_name, url) for record in records)
    return [offer for offer in offers if offer is not None]


def _texts(record: dict[str, object]) -> dict[str, str]:
    return {
        "size": str(record.get("bytes")),
        **{key: str(record.get(key)) for key in ("name", "kind", "digest")},
    }


def _sweep(staging: Path) -> None:
    """Drop what was begun long ago and never finished."""
    for folder in staging.iterdir() if staging.is_dir() else ():
        if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
