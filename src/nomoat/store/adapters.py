"""Adapters by name or path, made ready for the engine: one GGUF file that fits the loaded base."""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from nomoat.base.digests import sha256_file
from nomoat.base.errors import BadFileError, BaseMismatchError, InputError, NotFoundError
from nomoat.base.files import disk_errors, fsync_folder
from nomoat.base.manifests import MANIFEST_NAME, Manifest, read_manifest
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.fingerprint import tensor_fingerprint
from nomoat.formats.gguf_file import GGUFFile, read_gguf
from nomoat.formats.gguf_lora import read_gguf_lora, write_gguf_lora
from nomoat.formats.peft_folder import CONFIG_NAME, WEIGHTS_NAME, read_peft
from nomoat.store.names import adapter_names, check_name, is_name, unknown_name
from nomoat.store.records import StoredModel

__all__ = ["ADAPTER_KIND", "AUDIT_NAME", "GGUF_NAME", "TENSORS_FIELD", "Adapters"]

ADAPTER_KIND = "adapter"
"""The manifest kind of an adapter folder that nomoat made."""
GGUF_NAME = "adapter.gguf"
_CARD_NAME = "README.md"
TENSORS_FIELD = "base_tensors"
"""In a manifest's details: the fingerprint of the base's weights."""
AUDIT_NAME = "audit.json"
"""What an adapter gives away of its training text, as `nomoat measure audit` found it."""
_PIN_IN_JSON = re.compile(r'"base_digest"\s*:\s*"(sha256:[0-9a-f]{64})"')
_PIN_IN_YAML = re.compile(r"^\s*base_digest:\s*[\"']?(sha256:[0-9a-f]{64})", re.MULTILINE)
_MOST_CHARACTERS = 256 << 10
_REMEDY = "name a folder or .gguf file that `nomoat tune --out` or PEFT wrote"


class Adapters:
    """`home/adapters/<name>/`, and adapters anywhere else by their path."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "adapters"
        self._converted = home / "cache" / "adapters"

    def names(self) -> list[str]:
        """Names of the adapters in the store, sorted."""
        return adapter_names(self._folder.parent)

    def add(self, text: str, name: str, replace_existing: bool = False) -> Path:
        """Copy the adapter at a path into the store under `name`; all of it appears at once or nothing.

        Raises `InputError` where the name is taken, unless `replace_existing`; else as `resolve`.
        """
        check_name(name)
        source, target = self.resolve(text), self._folder / name.replace(":", "@")
        if target.exists() and not replace_existing:
            raise InputError(f"an adapter named {name!r} exists already",
                             f"choose another name, or remove it first: nomoat rm {name}")  # fmt: skip
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        with disk_errors(target):
            try:
                temporary.mkdir(parents=True)
                if source.is_dir():
                    for kept in _names_to_keep(source):
                        (temporary / kept).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(source / kept, temporary / kept)
                else:
                    read_gguf_lora(source)
                    shutil.copyfile(source, temporary / GGUF_NAME)
                if target.exists():
                    self.remove(name)
                temporary.rename(target)
                fsync_folder(self._folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return target

    def remove(self, name: str) -> None:
        """Delete the adapter `name` from the store; it disappears at once."""
        target = self._folder / name.replace(":", "@")
        trash = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        with disk_errors(target):
            target.rename(trash)
            shutil.rmtree(trash)

    def resolve(self, text: str) -> Path:
        """The folder or .gguf file that `text` names: a name in the store first, else a path.

        A folder with a manifest is compared with it. Raises `NotFoundError` where there is none or it is no
        adapter, `BadFileError` where it differs from its manifest.
        """
        path = Path(text).expanduser()
        if is_name(text) and (named := self._folder / text.replace(":", "@")).is_dir():
            path = named
        elif not path.exists():
            if "/" in text or text.endswith(".gguf"):
                raise NotFoundError(f"{text}: no such adapter", _REMEDY)
            raise unknown_name("adapter", text, self.names(), _REMEDY)
        if path.is_dir():
            if not any((path / name).is_file() for name in (GGUF_NAME, CONFIG_NAME)):
                raise NotFoundError(f"{path}: neither {GGUF_NAME} nor {CONFIG_NAME} is in it", _REMEDY)
            _manifest(path)
        return path

    def ready_file(
        self, text: str, model: StoredModel, family: Collection[str], *, force: bool = False
    ) -> Path:
        """A GGUF LoRA file for `model`, whose file and kin have the digests `family`.

        A PEFT folder is converted once and kept in the cache. Raises `BaseMismatchError` where the adapter
        names another base, unless `force`, and `BadFileError` where it is damaged or does not fit.
        """
        path, base = self.resolve(text), read_gguf(model.path)
        file = path / GGUF_NAME if path.is_dir() else path
        adapter = read_gguf_lora(file, base) if file.is_file() else read_peft(path, base)
        if not adapter.modules:
            raise BadFileError(path, "", "the adapter changes nothing", "train it again")
        if not force:
            _check(adapter, path, base, model, family)
        if file.is_file():
            return file
        content = "".join(sha256_file(path / name) for name in (WEIGHTS_NAME, CONFIG_NAME)) + model.digest
        file = self._converted / f"{hashlib.sha256(content.encode()).hexdigest()}.gguf"
        if not file.is_file():
            write_gguf_lora(adapter, file)
        return file


def _names_to_keep(folder: Path) -> list[str]:
    """The adapter's own files; checkpoints and logs beside them stay where they are."""
    manifest = _manifest(folder)
    if manifest is not None:
        # A card that came from a hub is no part of the manifest: its owner may change it there.
        card = [_CARD_NAME] if (folder / _CARD_NAME).is_file() and _CARD_NAME not in manifest.files else []
        return [*manifest.files, *card, MANIFEST_NAME]  # last, as when it was made
    return [name for name in (WEIGHTS_NAME, CONFIG_NAME, GGUF_NAME) if (folder / name).is_file()]


def _manifest(folder: Path) -> Manifest | None:
    if not (folder / MANIFEST_NAME).is_file():
        return None  # a PEFT folder from elsewhere
    return read_manifest(folder, ADAPTER_KIND, verify=True)


def _check(
    adapter: LoraAdapter, path: Path, base: GGUFFile, model: StoredModel, family: Collection[str]
) -> None:
    """Each pin that came with the adapter: in its weights, its manifest, its configuration and its card."""
    try:
        adapter.check_base(family, model.name)
        for digest in _pins(path) if path.is_dir() else ():
            replace(adapter, base_digest=digest).check_base(family, model.name)
    except BaseMismatchError:
        # Another file with the same weights is no other base. Asked last: it reads all of them.
        pinned = (_manifest(path) if path.is_dir() else None) or Manifest("", {})
        tensors = pinned.details.get(TENSORS_FIELD)
        if not tensors or tensors != tensor_fingerprint(base):
            raise


def _pins(folder: Path) -> Iterator[str]:
    manifest = _manifest(folder)
    if manifest is not None:
        yield manifest.parents.get("base", "")
    for name, pattern in ((CONFIG_NAME, _PIN_IN_JSON), ("README.md", _PIN_IN_YAML)):
        if (folder / name).is_file():
            with (folder / name).open(encoding="utf-8", errors="replace") as handle:
                text = handle.read(_MOST_CHARACTERS)
            # Of a card only the front matter counts: prose may speak of other files.
            head = text.partition("\n---")[0] if name == "README.md" else text
            yield from pattern.findall(head)
