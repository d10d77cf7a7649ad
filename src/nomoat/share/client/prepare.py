"""What is added to files before they are sent: the computed card, a signed provenance, a signature.

And what is asked first: whether anything speaks against sharing them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from nomoat.base.errors import NotFoundError
from nomoat.base.manifests import MANIFEST_NAME, read_manifest
from nomoat.share.cards.computed import Card, compute_card
from nomoat.share.cards.permission import Objection, objections
from nomoat.share.client.artefacts import CARD_NAME
from nomoat.share.client.outgoing import LocalFile, Outgoing
from nomoat.share.client.remote import RemoteRepo, Snapshot
from nomoat.share.client.signed import read_small
from nomoat.share.trust.keys import SigningKey
from nomoat.share.trust.provenance import PROVENANCE_NAME, sign_provenance
from nomoat.store.adapters import ADAPTER_KIND

__all__ = ["Licences", "Prepared", "add_provenance", "prepare"]


@dataclass(frozen=True)
class Licences:
    """What the owner states: of what is shared, and of the text that it was trained on. Empty: what the files say."""

    own: str = ""
    data: str = ""


@dataclass(frozen=True)
class Prepared:
    """Files with their card, and everything that speaks against sharing them."""

    outgoing: Outgoing
    objections: tuple[Objection, ...]

    def refused(self, allowed: Collection[str]) -> list[Objection]:
        """Objections that nobody overrode."""
        return [each for each in self.objections if each.code not in allowed]


def prepare(outgoing: Outgoing, remote: RemoteRepo, head: Snapshot | None, licences: Licences) -> Prepared:
    """Compute the card around the owner's words, and ask what speaks against sharing.

    What has no weights (a data set) keeps the card that its owner wrote.
    """
    prose = _prose(outgoing, remote, head)
    names = [file.path for file in outgoing.files if file.path != CARD_NAME]
    with tempfile.TemporaryDirectory() as stage:
        path = outgoing.folder or _named(outgoing, Path(stage))
        card = _card(path, outgoing, remote.repo.name, licences, prose)
        if card is None:
            return Prepared(outgoing, ())
        found = objections(path, card, names, prose)
    text = card.text(previous=prose)
    return Prepared(outgoing.with_files(LocalFile.of_bytes(CARD_NAME, text.encode())), tuple(found))


def add_provenance(outgoing: Outgoing, key: SigningKey) -> Outgoing:
    """With a signed statement on the training run, where `nomoat tune` left one to make."""
    folder = outgoing.folder
    if outgoing.kind != "adapter" or folder is None or not (folder / MANIFEST_NAME).is_file():
        return outgoing
    if not read_manifest(folder, ADAPTER_KIND).parents.get("base"):
        return outgoing
    return outgoing.with_files(LocalFile.of_bytes(PROVENANCE_NAME, sign_provenance(folder, key)))


def _card(path: Path, outgoing: Outgoing, name: str, licences: Licences, prose: str) -> Card | None:
    try:
        return compute_card(
            path, licence=licences.own, data_licence=licences.data, previous=prose, name=name,
            digests={file.path: file.digest for file in outgoing.files},
        )  # fmt: skip
    except NotFoundError:
        return None


def _named(outgoing: Outgoing, stage: Path) -> Path:
    """The single file under the name that it gets: the store's own says nothing about its format."""
    (file,) = (file for file in outgoing.files if file.path != CARD_NAME)
    path = stage / file.path
    assert isinstance(file.source, Path)
    path.symlink_to(file.source.absolute())
    return path


def _prose(outgoing: Outgoing, remote: RemoteRepo, head: Snapshot | None) -> str:
    """The owner's words: those of the hub, else of the folder, unless `nomoat tune` wrote them."""
    on_hub = head.file(CARD_NAME) if head else None
    if head is not None and on_hub is not None and not on_hub.damaged:
        return read_small(remote, head, on_hub).decode("utf-8", "replace")
    own = outgoing.file(CARD_NAME)
    if own is None or _is_generated(outgoing):
        return ""
    with own.open() as reader:
        return reader.read().decode("utf-8", "replace")


def _is_generated(outgoing: Outgoing) -> bool:
    folder = outgoing.folder
    if outgoing.kind != "adapter" or folder is None or not (folder / MANIFEST_NAME).is_file():
        return False
    return CARD_NAME in read_manifest(folder, ADAPTER_KIND).files
