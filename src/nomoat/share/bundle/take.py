"""Takes the things of a bundle into the store: each by the name it had, all bytes compared, or nothing of it."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nomoat.base.errors import BadFileError, InputError
from nomoat.base.files import disk_errors
from nomoat.base.manifests import MANIFEST_NAME, read_manifest
from nomoat.base.progress import Progress
from nomoat.share.bundle.read import copy_blob, plain_blob, read_bundle
from nomoat.share.things import Thing, files_of_manifest, find_thing
from nomoat.store.adapters import ADAPTER_KIND
from nomoat.store.store import Store

__all__ = ["Taken", "take_bundle"]


@dataclass(frozen=True)
class Taken:
    """A thing that is in the store now, and whether it was there before."""

    thing: Thing
    path: Path
    already_there: bool


def take_bundle(folder: Path, store: Store, progress: Progress) -> list[Taken]:
    """Take everything of the bundle into the store, models first.

    Raises `InputError` where a name stands for something else here, before anything is taken; `BadFileError` where
    the bundle is damaged.
    """
    things = sorted(read_bundle(folder), key=lambda thing: thing.kind != "model")
    known = [_known(store, thing, progress) for thing in things]
    return [
        there or _take(folder, thing, store, progress) for thing, there in zip(things, known, strict=True)
    ]


def _known(store: Store, thing: Thing, progress: Progress) -> Taken | None:
    """The same thing under the same name, where the store has it. Raises `InputError` where it has another."""
    if thing.kind == "model" and store.has_model(thing.name):
        model = store.resolve(thing.name, progress)
        if model.digest == thing.digest:
            return Taken(thing, model.path, already_there=True)
    elif thing.kind == "adapter" and thing.name in store.adapters():
        path = store.resolve_adapter(thing.name)
        if find_thing(store, str(path), progress).thing.digest == thing.digest:
            return Taken(thing, path, already_there=True)
    else:
        return None
    raise InputError(f"{thing.name!r} already names another {thing.kind} here",
                     f"remove it first, or give the one here a second name: nomoat cp {thing.name} OTHER")  # fmt: skip


def _take(folder: Path, thing: Thing, store: Store, progress: Progress) -> Taken:
    if thing.kind == "model":
        blob = plain_blob(folder, next(file for file in thing.files if file.digest == thing.digest))
        model = store.import_file(blob, thing.name, progress, digest=thing.digest)
        return Taken(thing, model.path, already_there=False)
    staging = store.home / "cache" / "bundles" / secrets.token_hex(8)
    with disk_errors(staging):
        try:
            for file in thing.files:
                copy_blob(folder, file, staging / file.path)
            _check_adapter(thing, staging)
            return Taken(thing, store.import_adapter(staging, thing.name), already_there=False)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _check_adapter(thing: Thing, staging: Path) -> None:
    """The adapter's own manifest, where it has one, names just its files, and the base that the bundle says."""
    if not (staging / MANIFEST_NAME).is_file():
        if thing.base_digest:
            raise BadFileError(
                f"adapter {thing.name!r}", "", "the's manifest, which names its base, is missing"
            )
        return
    manifest, place = read_manifest(staging, ADAPTER_KIND), f"the manifest of {thing.name!r}"
    files: Sequence[str] = [
        file.path for file in files_of_manifest(manifest, f"the manifest of {thing.name!r}")
    ]
    if manifest.parents.get("base", "") != thing.base_digest:
        raise BadFileError(place, "parents", "names another base than the bundle does")
    if sorted([*files, MANIFEST_NAME]) != sorted(file.path for file in thing.files):
        raise BadFileError(place, "files", "names other files than the bundle does")
