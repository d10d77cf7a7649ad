"""Small models and adapters, and stores for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nomoat.base.manifests import write_manifest
from nomoat.base.settings import Settings
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.gguf_lora import write_gguf_lora
from nomoat.formats.gguf_write import write_gguf
from nomoat.formats.peft_folder import write_peft
from nomoat.store.store import Store

__all__ = ["filled_store", "made_adapter", "made_model", "store_at"]

_WEIGHT = "blk.0.attn_q.weight"
_CARD = "---\nlicense: cc-by-4.0\nbase_model: base\n---\n\n# Notes\n"


def store_at(home: Path) -> Store:
    """A store of a test's own, without the embedded model."""
    return Store(home, Settings(home, None, home / "absent.gguf"))


def filled_store(folder: Path, name: str) -> Store:
    """A store with a model of that name, another one (`hidden`), and an adapter of the first (`notes`)."""
    store = store_at(folder / "home")
    model = store.import_file(made_model(folder / "model.gguf", 1, mebibytes=3), name)
    store.import_file(made_model(folder / "hidden.gguf", 2, mebibytes=1), "hidden")
    store.import_adapter(made_adapter(folder / "adapter", model.digest), "notes")
    return store


def made_model(path: Path, seed: int, mebibytes: int = 12) -> Path:
    """A GGUF model of about that size, different for every seed."""
    width = 32
    metadata = {
        "general.architecture": "llama", "general.license": "mit", "llama.context_length": 64,
        "llama.attention.head_count": 2, "llama.attention.head_count_kv": 2,
    }  # fmt: skip
    random = np.random.default_rng(seed)
    rows = mebibytes * (1 << 20) // (4 * width) + seed % 7
    tensors = {
        _WEIGHT: random.normal(size=(width, width)).astype(np.float32),
        "token_embd.weight": random.normal(size=(rows, width)).astype(np.float32),
    }
    write_gguf(path, metadata, tensors)
    return path


def made_adapter(folder: Path, base_digest: str) -> Path:
    """A folder as `nomoat tune` leaves it: with a report that quotes its owner, which must stay where it is."""
    random = np.random.default_rng(1)
    pair = (random.normal(size=(4, 32)).astype(np.float32), random.normal(size=(32, 4)).astype(np.float32))
    adapter = LoraAdapter(base_digest, "llama", 4, 8.0, {_WEIGHT: pair}, 2, 2)
    write_peft(adapter, folder)
    write_gguf_lora(adapter, folder / "adapter.gguf")
    (folder / "README.md").write_text(_CARD)
    (folder / "report.json").write_text('{"answer": "the boiler is in the cellar"}')
    names = [path.name for path in folder.iterdir()]
    write_manifest(folder, "adapter", names, {"base": base_digest, "dataset": "sha256:" + "0" * 64},
                   {"adapter": "/home/me/secret"})  # fmt: skip
    return folder
