"""Adapters by name or path, made ready for the engine: one GGUF file that fits the loaded base."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from nomoat.base.digests import sha256_file
from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.base.files import disk_errors, fsync_folder
from nomoat.base.manifests import MANIFEST_NAME, Manifest, read_manifest
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_lora import read_gguf_lora, write_gguf_lora
from nomoat.formats.peft_folder import CONFIG_NAME, WEIGHTS_NAME, read_peft
from nomoat.store.names import adapter_names, check_name, is_name, unknown_name
from nomoat.store.records import StoredModel

__all__ = ["ADAPTER_KIND", "GGUF_NAME", "Adapters"]

ADAPTER_KIND = "adapter"
"""The manifest kind of an adapter folder that nomoat made."""
GGUF_NAME = "adapter.gguf"
_CARD_NAME = "README.md"
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

    def ready_file(self, text: str, model: StoredModel, family: Collection[str]) -> Path:
        """A GGUF LoRA file for `model`, whose file and kin have the digests `family`.

        A PEFT folder is converted once and kept in the cache. Raises `BaseMismatchError` where the adapter
        names another base and `BadFileError` where it is damaged or does not fit.
        """
        path, base = self.resolve(text), read_gguf(model.path)
        manifest = _manifest(path) if path.is_dir() else None
        file = path / GGUF_NAME if path.is_dir() else path
        if file.is_file():
            _check(read_gguf_lora(file, base), manifest, model, family)
            return file
        adapter = read_peft(path, base)
        _check(adapter, manifest, model, family)
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
    adapter: LoraAdapter, manifest: Manifest | None, model: StoredModel, family: Collection[str]
) -> None:
    adapter.check_base(family, model.name)
    named = manifest.parents.get("base", "") if manifest else ""
    replace(adapter, base_digest=named).check_base(family, model.name)
    if not adapter.modules:
        raise BadFileError(model.path, "", "the adapter changes nothing", "train it again")
