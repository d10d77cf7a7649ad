"""What one person hands to another: a model or an adapter as a few files, each known by its digest.

A model is its GGUF file and has that file's digest. An adapter is its weights, its configuration, its card and a
manifest that names them and the base; the manifest's digest is the adapter's. Whatever else lies in an adapter's
folder (reports, logs, text that it was trained on) stays where it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from nomoat.base.digests import sha256_bytes, sha256_file
from nomoat.base.errors import BadFileError, InputError
from nomoat.base.files import atomic_write
from nomoat.base.manifests import MANIFEST_NAME, Manifest, read_manifest
from nomoat.base.progress import Progress
from nomoat.formats.adapter import BASE_DIGEST_KEY
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.peft_folder import CONFIG_NAME, WEIGHTS_NAME
from nomoat.formats.safetensors_file import read_safetensors
from nomoat.share.names import check_path, is_digest
from nomoat.store.adapters import ADAPTER_KIND, GGUF_NAME
from nomoat.store.names import is_name, name_for_file
from nomoat.store.store import Store

__all__ = ["LocalThing", "Thing", "ThingFile", "ThingKind", "files_of_manifest", "find_thing"]

ThingKind = Literal["model", "adapter"]

_HANDED_OVER = (WEIGHTS_NAME, CONFIG_NAME, GGUF_NAME, "README.md")
_MAY_ARRIVE = (".safetensors", ".gguf", ".json", ".md", ".txt", ".toml", ".jsonl", ".sig")
_MOST_FILES = 100


@dataclass(frozen=True)
class ThingFile:
    """A file by its relative path."""

    path: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Thing:
    """A model or an adapter. `base_digest` is empty for a model, and where an adapter does not say."""

    name: str
    kind: ThingKind
    digest: str
    files: tuple[ThingFile, ...]
    licence: str = ""
    architecture: str = ""
    quantisation: str = ""
    base_digest: str = ""

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files)

    def as_json(self) -> dict[str, Any]:
        """The form in which it is listed for others."""
        return {
            **asdict(self),
            "bytes": self.size_bytes,
            "files": [{"path": f.path, "digest": f.digest, "bytes": f.size_bytes} for f in self.files],
        }


@dataclass(frozen=True)
class LocalThing:
    """A thing and where on this machine its contents are, by digest."""

    thing: Thing
    sources: Mapping[str, Path]


def find_thing(store: Store, text: str, progress: Progress) -> LocalThing:
    """The model or adapter that `text` names: a name in the store, a GGUF file, an adapter's folder.

    Raises `NotFoundError`, `BadFileError` where a file has changed, and `InputError` where a model and an adapter
    have the same name.
    """
    is_model, is_adapter = store.has_model(text), text in store.adapters()
    if is_model and is_adapter:
        raise InputError(f"{text!r} names a model and an adapter",
                         f"name the adapter by its folder: {store.home / 'adapters' / text}")  # fmt: skip
    if is_adapter or (not is_model and _is_adapter(Path(text).expanduser())):
        return _adapter(store, text)
    return _model(store, text, progress)


def files_of_manifest(manifest: Manifest, place: str) -> tuple[ThingFile, ...]:
    """The files that an adapter's manifest names, for a manifest from elsewhere. Raises `BadFileError`.

    Nothing in it is believed: paths that lead out, and files that an adapter does not consist of, are refused.
    """
    try:
        files = tuple(
            ThingFile(check_path(path), entry["sha256"], entry["bytes"])
            for path, entry in manifest.files.items()
        )
    except (InputError, KeyError, TypeError) as error:
        raise BadFileError(place, "files", f"is not the list of an adapter's files ({error})") from error
    for file in files:
        if not is_digest(file.digest) or not isinstance(file.size_bytes, int) or file.size_bytes < 0:
            raise BadFileError(place, f"file {file.path!r}", "has no digest or no size")
        if not file.path.endswith(_MAY_ARRIVE) or file.path == MANIFEST_NAME:
            raise BadFileError(place, f"file {file.path!r}", "is nothing that an adapter consists of")
    if not {WEIGHTS_NAME, GGUF_NAME} & {file.path for file in files} or len(files) > _MOST_FILES:
        raise BadFileError(place, "files", "these are not the files of an adapter")
    return files


def _model(store: Store, text: str, progress: Progress) -> LocalThing:
    model = store.resolve(text, progress)
    name = model.name if is_name(model.name) else name_for_file(model.path)
    file = ThingFile(name.replace(":", "-") + ".gguf", model.digest, model.size_bytes)
    thing = Thing(name, "model", model.digest, (file,), model.licence, model.architecture, model.quantisation)
    return LocalThing(thing, {model.digest: model.path})


def _adapter(store: Store, text: str) -> LocalThing:
    folder = store.resolve_adapter(text)
    if folder.is_file():
        raise InputError(f"{folder}: is an adapter without a name yet",
                         f"give it one: nomoat import {folder} --name NAME")  # fmt: skip
    paths = [folder / name for name in _HANDED_OVER if (folder / name).is_file()]
    files = [ThingFile(path.name, sha256_file(path), path.stat().st_size) for path in paths]
    manifest = _manifest(folder, files)
    content = (json.dumps(asdict(manifest), indent=2, ensure_ascii=False) + "\n").encode()
    digest = sha256_bytes(content)
    kept = store.home / "cache" / "shared" / f"{digest.removeprefix('sha256:')}.json"
    atomic_write(kept, content)
    thing = Thing(
        text if is_name(text) else name_for_file(folder.absolute()), "adapter", digest,
        (*files, ThingFile(MANIFEST_NAME, digest, len(content))),
        _licence(folder / "README.md"), _architecture(paths), base_digest=manifest.parents.get("base", ""),
    )  # fmt: skip
    return LocalThing(thing, {digest: kept, **{file.digest: folder / file.path for file in files}})


def _manifest(folder: Path, files: Iterable[ThingFile]) -> Manifest:
    """A manifest of just these files. The folder's own one says more, such as where its owner keeps things."""
    known = read_manifest(folder, ADAPTER_KIND) if (folder / MANIFEST_NAME).is_file() else None
    parents = dict(known.parents) if known else {}
    if not parents.get("base") and (base := _recorded_base(folder)):
        parents["base"] = base
    entries = {file.path: {"sha256": file.digest, "bytes": file.size_bytes} for file in files}
    return Manifest(ADAPTER_KIND, entries, parents, {}, known.created if known else "")


def _is_adapter(path: Path) -> bool:
    if not path.is_file():
        return path.is_dir()
    return bool(read_gguf(path).metadata.get("general.type") == "adapter")


def _recorded_base(folder: Path) -> str:
    """The base that the adapter's own files name, empty where they do not."""
    if (folder / GGUF_NAME).is_file():
        found = read_gguf(folder / GGUF_NAME).metadata.get(BASE_DIGEST_KEY, "")
    else:
        found = read_safetensors(folder / WEIGHTS_NAME)[1].get(BASE_DIGEST_KEY, "")
    return found if isinstance(found, str) and is_digest(found) else ""


def _architecture(paths: Iterable[Path]) -> str:
    return next((read_gguf(path).architecture for path in paths if path.name == GGUF_NAME), "")


def _licence(card: Path) -> str:
    """The licence that the card's front matter states, empty where it does not."""
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines() if card.is_file() else []
    if not lines or lines[0].strip() != "---":
        return ""
    for line in lines[1:]:
        key, _, value = line.partition(":")
        if key == "license":
            return value.strip().strip("'\"")
        if line.strip() == "---":
            break
    return ""
