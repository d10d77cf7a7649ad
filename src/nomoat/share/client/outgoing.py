"""What is to be sent: the files of an adapter, of a model or of a folder, under the paths that they get on the hub."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal

from nomoat.base.digests import sha256_bytes
from nomoat.base.errors import InputError, NotFoundError
from nomoat.base.manifests import MANIFEST_NAME
from nomoat.base.progress import Progress
from nomoat.formats.adapter import BASE_DIGEST_KEY
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.peft_config import CONFIG_NAME
from nomoat.share.cards.published import published_manifest
from nomoat.share.client.artefacts import ADAPTER_FILES
from nomoat.share.client.bases import base_digest
from nomoat.share.client.selection import quantisation_of_name
from nomoat.share.names import check_path
from nomoat.store.adapters import GGUF_NAME
from nomoat.store.blobs import digest_of
from nomoat.store.names import is_name, name_for_file
from nomoat.store.store import Store

__all__ = ["LocalFile", "Outgoing", "gather"]

_MOST_FILES = 20_000
_SAMPLE_BYTES = 512


@dataclass(frozen=True)
class LocalFile:
    """A file on its way out: its path on the hub, its bytes (in a file or in memory), size and sha256."""

    path: str
    source: Path | bytes = field(repr=False)
    size_bytes: int
    digest: str

    @classmethod
    def of_bytes(cls, path: str, content: bytes) -> LocalFile:
        """A file that is made just now."""
        return cls(path, content, len(content), sha256_bytes(content))

    @classmethod
    def of_file(cls, path: str, source: Path, progress: Progress) -> LocalFile:
        """A file of the disk, read once to digest it."""
        return cls(check_path(path), source, source.stat().st_size, digest_of(source, progress, source.name))

    def open(self) -> BinaryIO:
        """Its bytes."""
        return self.source.open("rb") if isinstance(self.source, Path) else io.BytesIO(self.source)

    def sample(self) -> bytes:
        """Its first bytes, from which a hub tells text from anything else."""
        with self.open() as reader:
            return reader.read(_SAMPLE_BYTES)

    def git_oid(self) -> str:
        """The id that git gives to its content."""
        hasher = hashlib.sha1(f"blob {self.size_bytes}\0".encode(), usedforsecurity=False)
        with self.open() as reader:
            while chunk := reader.read(1 << 20):
                hasher.update(chunk)
        return hasher.hexdigest()


@dataclass(frozen=True)
class Outgoing:
    """Files that are sent together. `folder` is where an adapter is, or the folder itself; None for a single file."""

    kind: Literal["adapter", "model", "folder"]
    name: str
    files: tuple[LocalFile, ...]
    folder: Path | None = None
    base_digest: str = ""

    @property
    def size_bytes(self) -> int:
        """All of them."""
        return sum(file.size_bytes for file in self.files)

    def file(self, path: str) -> LocalFile | None:
        """The file for `path`, or None."""
        return next((file for file in self.files if file.path == path), None)

    def with_files(self, *files: LocalFile) -> Outgoing:
        """These files added, in place of those of the same paths."""
        paths = {file.path for file in files}
        return replace(self, files=(*(file for file in self.files if file.path not in paths), *files))


def gather(store: Store, text: str, progress: Progress) -> Outgoing:
    """The files of what `text` names: an adapter or a model of the store, a GGUF file, or a folder.

    Raises `NotFoundError`, `BadFileError` where a file has changed, `InputError` where the name is ambiguous.
    """
    is_model, is_adapter = store.has_model(text), text in store.adapters()
    if is_model and is_adapter:
        raise InputError(f"{text!r} names a model and an adapter",
                         f"name the adapter by its folder: {store.home / 'adapters' / text}")  # fmt: skip
    path = Path(text).expanduser()
    if is_adapter or (not is_model and path.is_dir() and _holds_adapter(path)):
        return _adapter(store.resolve_adapter(text), text, progress)
    if not is_model and path.is_dir():
        return _folder(path, progress)
    if not is_model and path.is_file() and read_gguf(path).metadata.get("general.type") == "adapter":
        return _adapter_file(path, progress)
    return _model(store, text, progress)


def _adapter(folder: Path, text: str, progress: Progress) -> Outgoing:
    kept = [folder / name for name in ADAPTER_FILES if name != MANIFEST_NAME and (folder / name).is_file()]
    files = [LocalFile.of_file(path.name, path, progress) for path in kept]
    base = base_digest(folder)
    name = text if is_name(text) else name_for_file(folder.absolute())
    sent = Outgoing("adapter", name, tuple(files), folder, base)
    if not (folder / MANIFEST_NAME).is_file():
        return sent  # a PEFT folder from elsewhere
    content = published_manifest(folder, [file.path for file in files])
    return sent.with_files(LocalFile.of_bytes(MANIFEST_NAME, content))


def _adapter_file(path: Path, progress: Progress) -> Outgoing:
    base = read_gguf(path).metadata.get(BASE_DIGEST_KEY, "")
    file = LocalFile.of_file(GGUF_NAME, path, progress)
    return Outgoing("adapter", name_for_file(path), (file,), None, base if isinstance(base, str) else "")


def _model(store: Store, text: str, progress: Progress) -> Outgoing:
    model = store.resolve(text, progress)
    stem = model.name.replace(":", "-") if is_name(model.name) else model.path.stem
    name = stem if quantisation_of_name(f"{stem}.gguf") else f"{stem}.{model.quantisation}"
    file = LocalFile(check_path(f"{name}.gguf"), model.path, model.size_bytes, model.digest)
    return Outgoing("model", name_for_file(Path(name)), (file,))


def _folder(folder: Path, progress: Progress) -> Outgoing:
    found = [path for path in sorted(folder.rglob("*")) if not _is_hidden(path.relative_to(folder))]
    for path in found:
        if path.is_symlink():
            raise InputError(f"{path}: is a link, which leads out of the folder", "copy the file there")
    paths = [path for path in found if path.is_file()]
    if not paths:
        raise NotFoundError(f"{folder}: holds no files", "name a folder with something to send")
    if len(paths) > _MOST_FILES:
        raise InputError(
            f"{folder}: {len(paths):,} files", f"send at most {_MOST_FILES:,}; pack small ones together"
        )
    files = [LocalFile.of_file(path.relative_to(folder).as_posix(), path, progress) for path in paths]
    return Outgoing("folder", name_for_file(folder.absolute()), tuple(files), folder)


def _holds_adapter(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CONFIG_NAME, GGUF_NAME))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)
