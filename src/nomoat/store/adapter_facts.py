"""What an adapter is, read from its own files: its base, its rank, its parts. Nothing of its weights is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.base.errors import NomoatError
from nomoat.base.manifests import MANIFEST_NAME, Manifest, read_manifest
from nomoat.base.plain_text import printable
from nomoat.formats.adapter import BASE_DIGEST_KEY
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.peft_config import read_scales
from nomoat.formats.peft_folder import CONFIG_NAME, WEIGHTS_NAME
from nomoat.formats.safetensors_file import read_safetensors
from nomoat.store.adapters import ADAPTER_KIND, GGUF_NAME

__all__ = ["AdapterFacts", "adapter_facts"]

_ALPHA_KEY = "adapter.lora.alpha"
_LONGEST = 200


@dataclass(frozen=True)
class AdapterFacts:
    """An adapter's own word. Empty, or None, where its files do not say it.

    `base_name` proves nothing: it is what the adapter's maker called the base.
    """

    path: Path
    base_digest: str
    base_name: str
    rank: int | None
    alpha: float | None
    architecture: str
    created: str
    files: tuple[tuple[str, int], ...]
    """Names and sizes in bytes."""

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(size for _, size in self.files)


def adapter_facts(path: Path) -> AdapterFacts:
    """The facts of an adapter's folder or .gguf file. Raises `BadFileError` where it cannot be read."""
    folder = path if path.is_dir() else None
    manifest = _manifest(folder)
    gguf = folder / GGUF_NAME if folder else path
    head = _gguf_head(gguf) if gguf.is_file() else {}
    config = _config(folder / CONFIG_NAME) if folder and (folder / CONFIG_NAME).is_file() else {}
    digests = [manifest.parents.get("base"), head.get("digest"), _weights_digest(folder)]
    names = [manifest.details.get("base"), config.get("base_model_name_or_path")]
    return AdapterFacts(
        path,
        next((_plain(digest) for digest in digests if digest), ""),
        next((_plain(name) for name in names if isinstance(name, str) and name), ""),
        config.get("r") or head.get("rank"),
        config.get("alpha") or head.get("alpha"),
        _plain(head.get("architecture")),
        _plain(manifest.created),
        tuple(_files(path)),
    )


def _manifest(folder: Path | None) -> Manifest:
    if folder is None or not (folder / MANIFEST_NAME).is_file():
        return Manifest(ADAPTER_KIND, {})
    return read_manifest(folder, ADAPTER_KIND)


def _gguf_head(path: Path) -> dict[str, Any]:
    gguf = read_gguf(path)
    ranks = [info.shape[-1] for name, info in gguf.tensors.items() if name.endswith(".lora_a") and info.shape]
    return {"digest": gguf.metadata.get(BASE_DIGEST_KEY), "alpha": gguf.metadata.get(_ALPHA_KEY),
            "rank": max(ranks, default=None), "architecture": gguf.architecture}  # fmt: skip


def _config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        scales = read_scales(path)
    except (ValueError, NomoatError):
        return {}  # `nomoat run` says what is wrong with it; here the other files speak
    return {**content, "r": scales.r, "alpha": scales.lora_alpha}


def _weights_digest(folder: Path | None) -> str:
    if folder is None or not (folder / WEIGHTS_NAME).is_file():
        return ""
    return str(read_safetensors(folder / WEIGHTS_NAME)[1].get(BASE_DIGEST_KEY, ""))


def _files(path: Path) -> list[tuple[str, int]]:
    if path.is_file():
        return [(path.name, path.stat().st_size)]
    found = (each for each in path.rglob("*") if each.is_file())
    return sorted((each.relative_to(path).as_posix(), each.stat().st_size) for each in found)


def _plain(value: Any) -> str:
    """A word from somebody else's file, for a terminal: nothing in it may steer that."""
    return printable(str(value or ""))[:_LONGEST]
