"""Verified files become a model or an adapter of the store, without a second copy where the disk can do that."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nomoat.base.digests import sha256_file
from nomoat.base.files import disk_errors
from nomoat.base.progress import Progress
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_merge import merge_gguf
from nomoat.formats.peft_folder import WEIGHTS_NAME
from nomoat.share.client.bases import base_digest
from nomoat.share.client.selection import Selection
from nomoat.share.errors import RefusedError
from nomoat.store.adapters import GGUF_NAME
from nomoat.store.store import Origin, Store

__all__ = ["Adopted", "Arrival", "adopt"]

_STAGE = ".stage-"
_STALE_SECONDS = 3600


@dataclass(frozen=True)
class Arrival:
    """Verified files by their path in the repository, and what they are to be called.

    `may_replace` says for "model" and "adapter" whether the name may be taken from another one. `trained_on` is the
    base's digest by a verified provenance, or empty.
    """

    selection: Selection
    paths: Mapping[str, Path]
    name: str
    source: str
    may_replace: Mapping[str, bool]
    trained_on: str = ""


@dataclass(frozen=True)
class Adopted:
    """What the files turned out to be. `digest` is that of the model's file, or of the adapter's weights."""

    kind: Literal["model", "adapter"]
    digest: str


def adopt(store: Store, arrival: Arrival, progress: Progress) -> Adopted:
    """Put what arrived into the store.

    Raises `BadFileError`, `InputError` where the name is taken, `RefusedError` where a provenance does not fit.
    """
    if arrival.selection.kind == "adapter":
        with _stage(store.home / "downloads") as folder:
            for file in arrival.selection.files:
                _share(arrival.paths[file.path], folder / file.path)
            return _adopt_adapter(store, arrival, folder)
    first = arrival.paths[arrival.selection.files[0].path]
    if read_gguf(first).metadata.get("general.type") == "adapter":
        return _adopt_adapter(store, arrival, first)
    if len(arrival.selection.files) == 1:
        return _adopt_model(store, arrival, first, arrival.selection.files[0].digest)
    with _stage(store.home / "downloads") as folder:
        whole = folder / "joined.gguf"
        merge_gguf([arrival.paths[file.path] for file in arrival.selection.files], whole, progress)
        return _adopt_model(store, arrival, whole, None)


def _adopt_model(store: Store, arrival: Arrival, path: Path, digest: str | None) -> Adopted:
    name, origin = arrival.name, Origin(arrival.source, digest)
    replaces = arrival.may_replace["model"] and not _holds(store, name, digest)
    model = store.import_file(path, name, replace_existing=replaces, origin=origin)
    return Adopted("model", model.digest)


def _adopt_adapter(store: Store, arrival: Arrival, source: Path) -> Adopted:
    if arrival.trained_on and source.is_dir() and base_digest(source) != arrival.trained_on:
        raise RefusedError(f"{arrival.source}: pins another base than the one that its provenance tells of",
                           "nothing was kept; ask its owner to push again what was trained")  # fmt: skip
    target = store.import_adapter(source, arrival.name, arrival.may_replace["adapter"])
    weights = next(target / name for name in (WEIGHTS_NAME, GGUF_NAME) if (target / name).is_file())
    return Adopted("adapter", sha256_file(weights))


def _holds(store: Store, name: str, digest: str | None) -> bool:
    return store.has_model(name) and digest in {version.digest for version in store.versions(name)}


@contextlib.contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """An empty folder, gone afterwards; those that a killed process left are swept."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{_STAGE}*"):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_STAGE, dir=folder) as stage:
            yield Path(stage)


def _share(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
