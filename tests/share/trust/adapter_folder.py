"""An adapter's folder as `nomoat tune` leaves it, written by the same writers, without the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.base.digests import sha256_file
from nomoat.base.manifests import write_manifest
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.gguf_lora import write_gguf_lora
from nomoat.formats.peft_folder import write_peft

__all__ = ["BASE_DIGEST", "write_adapter"]

BASE_DIGEST = "sha256:" + "ba5e" * 16


def write_adapter(
    folder: Path, *, licence: str = "Apache-2.0", data_licence: str | None = None, seed: int = 0,
    rows: list[str] | None = None, report: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Weights, configuration, dataset, report and manifest."""
    rng = np.random.default_rng(seed)
    pair = (rng.normal(size=(4, 32)).astype(np.float32), rng.normal(size=(32, 4)).astype(np.float32))
    details = {"base": "tiny", "licence": licence, "made_by": "nomoat 0.1.0"}
    adapter = LoraAdapter(BASE_DIGEST, "llama", 4, 8.0, {"blk.0.attn_q.weight": pair}, 2, 2, details)
    write_peft(adapter, folder)
    write_gguf_lora(adapter, folder / "adapter.gguf")
    (folder / "config.toml").write_text("r = 4\nseed = 0\n")
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    dataset = _write_dataset(folder / "dataset", rows or ["Marta likes Lapsang."], data_licence)
    (folder / "report.json").write_text(json.dumps({"base_model": "somebody/tiny-chat", **(report or {})}))
    names = ["adapter_model.safetensors", "adapter_config.json", "adapter.gguf", "config.toml", "metrics.jsonl",
             "report.json"]  # fmt: skip
    write_manifest(folder, "adapter", names, {"base": BASE_DIGEST, "dataset": dataset}, _details(folder))
    return folder


def _write_dataset(folder: Path, rows: list[str], licence: str | None) -> str:
    folder.mkdir()
    for part in ("train", "valid"):
        lines = [json.dumps({"text": row}, ensure_ascii=False) for row in rows]
        (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n")
    counts = {"texts": len(rows), "chats": 0, "characters": sum(map(len, rows)), "documents": len(rows)}
    details = {"licence": licence, "train": counts, "valid": counts, "files": [{"name": "my-diary.md"}]}
    write_manifest(folder, "dataset", ["train.jsonl", "valid.jsonl"], {"source": BASE_DIGEST}, details)
    return sha256_file(folder / "manifest.json")


def _details(folder: Path) -> dict[str, Any]:
    before, after = (
        {"loss": 3.0, "bits_per_byte": bits, "bits_per_byte_interval": [1.0, 2.0]} for bits in (1.9, 0.9)
    )
    return {"adapter": str(folder), "base": "tiny", "before": before, "after": after, "verdict": "better",
            "train_tokens": 1234, "steps": 10, "seconds": 12.5, "made_by": "nomoat 0.1.0",
            "machine": {"processor": "abacus"}}  # fmt: skip
