"""Reads a bundle, which may come from anyone: no link is followed, no path leads out, every digest is computed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nomoat.base.digests import sha256_bytes
from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.share.bundle.layout import (
    BASE,
    FILE_PATH,
    INDEX_NAME,
    KIND,
    LAYOUT_NAME,
    MANIFEST_TYPE,
    REF_NAME,
    TITLE,
)
from nomoat.share.names import check_path, is_digest
from nomoat.share.things import Thing, ThingFile, ThingKind
from nomoat.store.names import check_name

__all__ = ["blob_path", "copy_blob", "is_bundle", "plain_blob", "read_bundle", "read_index"]

_LARGEST_DOCUMENT = 4 << 20
_MOST_ENTRIES, _MOST_FILES = 1000, 200
_CHUNK_BYTES = 8 << 20
_AGAIN = "copy the bundle again, or ask whoever made it"
# As they are, and one tool's own words for the same.
_PLAIN_LAYERS = (".raw", ".gguf", ".safetensors", "gguf.v3")


def is_bundle(path: Path) -> bool:
    """Whether a folder says that it is an OCI image layout."""
    return (path / LAYOUT_NAME).is_file()


def read_bundle(folder: Path) -> list[Thing]:
    """The things of a bundle; their manifests are verified, their files not yet.

    Raises `BadFileError` where it is damaged or plays tricks, `NotFoundError` where nothing is in it.
    """
    things = [_thing(folder, entry) for entry in read_index(folder)]
    if not things:
        raise NotFoundError(f"{folder}: no model and no adapter is in it", _AGAIN)
    return things


def read_index(folder: Path) -> list[dict[str, Any]]:
    """The entries of a bundle's index; none where there is no index yet."""
    path = folder / INDEX_NAME
    if not path.is_symlink() and not path.exists():
        return []
    entries = _document(path, _read(path, _LARGEST_DOCUMENT)).get("manifests")
    if not isinstance(entries, list) or len(entries) > _MOST_ENTRIES:
        raise BadFileError(path, "manifests", "is no list of a sensible length", _AGAIN)
    if not all(isinstance(entry, dict) for entry in entries):
        raise BadFileError(path, "manifests", "holds something else than objects", _AGAIN)
    return entries


def blob_path(folder: Path, digest: str) -> Path:
    """Where a blob is. Raises `BadFileError` where the digest is none, or the way to it leads over a link."""
    if not is_digest(digest):
        raise BadFileError(folder, "", f"{digest[:80]!r} is no digest", _AGAIN)
    blobs = folder / "blobs"
    for part in (blobs, blobs / "sha256"):
        if part.is_symlink() or not part.is_dir():
            raise BadFileError(part, "", "is no plain folder", _AGAIN)
    return blobs / "sha256" / digest.removeprefix("sha256:")


def plain_blob(folder: Path, file: ThingFile) -> Path:
    """Where a file's blob is: a regular file of the right size, not yet verified. Raises `BadFileError`."""
    path = blob_path(folder, file.digest)
    _opened(path, file.size_bytes).close()
    return path


def copy_blob(folder: Path, file: ThingFile, target: Path) -> None:
    """Copy a file out of the bundle and compare it as it comes. Raises `BadFileError`; `target` then is not there."""
    path, hasher = blob_path(folder, file.digest), hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path, file.size_bytes) as reader, target.open("xb") as writer:
        for chunk in _chunks(reader):
            hasher.update(chunk)
            writer.write(chunk)
    if f"sha256:{hasher.hexdigest()}" != file.digest:
        target.unlink()
        raise BadFileError(path, "", f"is not {file.digest}", _AGAIN)


@dataclass(frozen=True)
class _Layer:
    media_type: str
    file: ThingFile


def _thing(folder: Path, entry: dict[str, Any]) -> Thing:
    digest = str(entry.get("digest"))
    path = blob_path(folder, digest)
    content = _read(path, _LARGEST_DOCUMENT)
    if sha256_bytes(content) != digest:
        raise BadFileError(path, "", "its content is not what its name says", _AGAIN)
    manifest = _document(path, content)
    if entry.get("mediaType") != MANIFEST_TYPE or not isinstance(manifest.get("layers"), list):
        raise BadFileError(path, "", "is no manifest of a model", _AGAIN)
    if not 0 < len(manifest["layers"]) <= _MOST_FILES:
        raise BadFileError(path, "layers", f"there are {len(manifest['layers'])} of them", _AGAIN)
    files = tuple(_file(path, layer) for layer in manifest["layers"])
    notes, own = _notes(entry), _notes(manifest)
    name = check_name(notes.get(REF_NAME) or own.get(TITLE) or "")
    kind = _kind(own.get(KIND, ""), files)
    weights = _main_file(path, kind, files)
    base = own.get(BASE, "")
    if base and not is_digest(base):
        raise BadFileError(path, BASE, f"{base[:80]!r} is no digest", _AGAIN)
    return Thing(name, kind, weights.digest, files, base_digest=base)


def _kind(said: str, files: tuple[ThingFile, ...]) -> ThingKind:
    is_adapter = said == "adapter" or any(file.path == "adapter_config.json" for file in files)
    return "adapter" if is_adapter else "model"


def _main_file(path: Path, kind: ThingKind, files: tuple[ThingFile, ...]) -> ThingFile:
    """The file whose digest is the thing's: a model's only GGUF file, an adapter's manifest, else its weights."""
    if kind == "model":
        found = [file for file in files if file.path.endswith(".gguf")]
        if len(found) == 1:
            return found[0]
        raise BadFileError(path, "layers", f"{len(found)} GGUF files: a model is one", _AGAIN)
    names = {file.path: file for file in files}
    for wanted in ("manifest.json", "adapter_model.safetensors", "adapter.gguf"):
        if wanted in names:
            return names[wanted]
    raise BadFileError(path, "layers", "these are not the files of an adapter", _AGAIN)


def _file(path: Path, layer: Any) -> ThingFile:
    notes = _notes(layer if isinstance(layer, dict) else {})
    name = notes.get(FILE_PATH) or notes.get(TITLE) or ""
    digest, size = (str(layer.get("digest")), layer.get("size")) if isinstance(layer, dict) else ("", None)
    if not is_digest(digest) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BadFileError(path, f"layer {name[:80]!r}", "has no digest or no size", _AGAIN)
    if not str(layer.get("mediaType", "")).endswith(_PLAIN_LAYERS):
        raise BadFileError(path, f"layer {name[:80]!r}", "is packed (tar or compressed), not a plain file",
                           "unpack it with the tool that made it, then import the GGUF file")  # fmt: skip
    try:
        return ThingFile(check_path(name), digest, size)
    except InputError as error:
        raise BadFileError(path, "layers", error.message, _AGAIN) from error


def _notes(content: dict[str, Any]) -> dict[str, str]:
    notes = content.get("annotations")
    if not isinstance(notes, dict):
        return {}
    return {key: value for key, value in notes.items() if isinstance(value, str)}


def _document(path: Path, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadFileError(path, "", f"is no JSON ({type(error).__name__})", _AGAIN) from error
    if not isinstance(document, dict):
        raise BadFileError(path, "", "is no JSON object", _AGAIN)
    return document


def _read(path: Path, largest: int) -> bytes:
    with _opened(path, None) as handle:
        content = handle.read(largest + 1)
    if len(content) > largest:
        raise BadFileError(path, "", f"is larger than {largest:,} bytes", _AGAIN)
    return content


def _opened(path: Path, size_bytes: int | None) -> BinaryIO:
    """A regular file for reading: a link, a device or a pipe is refused without being touched."""
    try:
        handle = open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise BadFileError(path, "", f"cannot be read ({error.strerror})", _AGAIN) from error
    state = os.fstat(handle.fileno())
    if not stat.S_ISREG(state.st_mode) or (size_bytes is not None and state.st_size != size_bytes):
        handle.close()
        problem = (
            f"has {state.st_size:,} bytes, not {size_bytes:,}" if size_bytes is not None else "is no file"
        )
        raise BadFileError(path, "", problem, _AGAIN)
    return handle


def _chunks(handle: BinaryIO) -> Iterator[bytes]:
    while chunk := handle.read(_CHUNK_BYTES):
        yield chunk
