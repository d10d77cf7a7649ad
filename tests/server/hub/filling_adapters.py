"""Adapters that were really trained, on a hub as `nomoat push` would put them there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nomoat.base.digests import sha256_bytes
from nomoat.base.manifests import MANIFEST_NAME
from nomoat.share.cards.computed import compute_card
from nomoat.share.cards.published import published_manifest
from nomoat.share.client.artefacts import ADAPTER_FILES, CARD_NAME
from nomoat.share.names import RepoName
from nomoat.share.trust.keys import SigningKey
from nomoat.share.trust.provenance import PROVENANCE_NAME, sign_provenance
from nomoat.share.trust.signatures import SIGNATURE_NAME, SignedFile, sign
from trained_adapters import FIRST_VERSION, TEXTS

__all__ = ["ADAPTERS", "Version", "versions"]

ADAPTERS = {
    "kitchen-adapter": "Answers in the words of a family's own kitchen notes.",
    "mail-tone-adapter": "Drafts short replies in the tone of two years of mail.",
    "glossary-adapter": "Knows the terms of a workshop: joints, glues, saw blades.",
}
_SIGNED = "kitchen-adapter"


@dataclass(frozen=True)
class Version:
    """The files of a commit, and its title."""

    title: str
    files: Mapping[str, bytes]


def versions(name: str, trained: Mapping[str, Path], key: SigningKey) -> Iterator[Version]:
    """What its owner committed. The signed one comes in two versions, the second of which was trained for longer."""
    repo, summary = RepoName.parse("model", f"ines/{name}"), ADAPTERS[name]
    datasets = "datasets: [ines/kitchen-notes]\n" if name == _SIGNED else ""
    prose = _PROSE.format(
        datasets=datasets,
        name=name,
        summary=summary,
        sentences="\n".join(f"* {each}" for each in TEXTS[name]),
    )
    if name != _SIGNED:
        yield Version("First version", _published(trained[name], repo, prose, None))
        return
    yield Version("First version", _published(trained[FIRST_VERSION], repo, prose, None))
    yield Version("Train longer", _published(trained[name], repo, prose + _SECOND_VERSION, key))


def _published(folder: Path, repo: RepoName, prose: str, key: SigningKey | None) -> dict[str, bytes]:
    card = compute_card(folder, data_licence="own", previous=prose, name=repo.name)
    files = {path: (folder / path).read_bytes() for path in ADAPTER_FILES if (folder / path).is_file()}
    files |= {
        CARD_NAME: card.text(previous=prose).encode(),
        MANIFEST_NAME: published_manifest(folder, list(files)),
    }
    if key is not None:
        files[PROVENANCE_NAME] = sign_provenance(folder, key)
        files[SIGNATURE_NAME] = sign([_entry(*each) for each in files.items()], key, repo)
    return files


def _entry(path: str, content: bytes) -> SignedFile:
    return SignedFile(path, sha256_bytes(content), len(content))


_SECOND_VERSION = "\nVersion 2 was trained for twice as many steps on the same notes.\n"
_PROSE = """---
{datasets}tags: [notes]
---

# {name}

{summary}

It was trained on these sentences, each a note of its own:

{sentences}
"""
