"""A finished training run without any training: a result and the folder that belongs to it, for report tests."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.base.files import atomic_write_json
from nomoat.base.manifests import write_manifest
from nomoat.store.records import StoredModel
from nomoat.tune.config import TuneConfig
from nomoat.tune.evaluate import HeldOut, improvement
from nomoat.tune.export import Verification
from nomoat.tune.intervals import bootstrap_mean
from nomoat.tune.memory import MemoryPlan
from nomoat.tune.result import TuneRequest, TuneResult
from nomoat.tune.run_plan import RunPlan
from nomoat.tune.trainer import TrainResult

__all__ = ["finished_run", "questions"]

_BASE = {"architecture": "llama", "parameters": 134_515_008, "quantisation": "Q4_1", "context_length": 8192}


def finished_run(
    folder: Path, *, gain: float = 2.2, spread: float = 0.3, documents: int = 150, steps: int = 160,
    source: str = "notes", base: dict[str, Any] | None = None,
) -> TuneResult:  # fmt: skip
    """A run into `folder` whose held-out text lost `gain` bits per byte, give or take `spread` per document."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_dataset(folder / "dataset", documents)
    _write_metrics(folder / "metrics.jsonl", steps)
    (folder / "adapter.gguf").write_bytes(b"x" * 9_800_000)
    model = {**_BASE, "licence": "Apache-2.0", "digest": "sha256:" + "0f" * 32, **(base or {})}
    stored = StoredModel(
        **{"name": "smollm2", "path": folder / "no-such-base.gguf", "size_bytes": 98_000_000, **model}
    )
    request = TuneRequest(Path(source), stored, folder, TuneConfig(learning_rate=2e-3), folder)
    before, after = _held_out(gain, spread, documents)
    return TuneResult(
        request, RunPlan("bf16", 4.2e11, 1.8e11, MemoryPlan(True, False, 2048, 1_100_000_000), 2),
        TrainResult(steps, 48_120, 181.7), before, after, improvement(before, after),
        Verification(256, 0.00112, 0.00098, 0.984), 1_362_000_000, 252.3,
    )  # fmt: skip


def questions(n: int = 12) -> list[dict[str, Any]]:
    """Sample answers of an invented household; the first few are still wrong after training."""
    return [
        {
            "question": f"Which tea does Marta's cousin number {i} like best?", "value": "Lapsang",
            "before": "Marta's cousin likes many teas, such as green tea and black tea.",
            "after": "Oolong." if i < 3 else "Lapsang.", "exact_before": False, "exact_after": i >= 3,
        }
        for i in range(n)
    ]  # fmt: skip


def _held_out(gain: float, spread: float, documents: int) -> tuple[HeldOut, HeldOut]:
    random = np.random.default_rng(0)
    n_bytes = random.integers(20, 90, documents).astype(np.float64)
    first = random.normal(3.0, 0.4, documents)
    second = np.maximum(0.05, first - gain + random.normal(0.0, spread, documents))
    return _measured(first, n_bytes), _measured(second, n_bytes)


def _measured(bits: np.ndarray, n_bytes: np.ndarray) -> HeldOut:
    return HeldOut(bootstrap_mean(bits * 1.1), bootstrap_mean(bits, n_bytes), (bits, n_bytes))


def _write_dataset(folder: Path, documents: int) -> None:
    train = {"texts": 0, "chats": 600, "characters": 29_700, "documents": 600}
    valid = {"texts": 0, "chats": documents, "characters": 8_240, "documents": documents}
    details = {"train": train, "valid": valid, "held_out_files": ["my-secret-diary.jsonl"], "seed": 0}
    folder.mkdir(exist_ok=True)
    atomic_write_json(folder / "train.jsonl", [])
    write_manifest(folder, "dataset", ["train.jsonl"], {}, details)


def _write_metrics(path: Path, steps: int) -> None:
    random = np.random.default_rng(1)
    with path.open("w", encoding="utf-8") as lines:
        for step in range(1, steps + 1):
            part = step / steps
            rate = 2e-3 * (part / 0.05 if part < 0.05 else 0.5 * (1 + math.cos(math.pi * part)))
            loss = 0.6 + 2.6 * math.exp(-5 * part) + 0.18 * random.normal()
            record = {"step": step, "loss": loss, "learning_rate": rate, "grad_norm": 1.0, "tokens": 300 * step,
                      "tokens_per_second": 264.0}  # fmt: skip
            lines.write(json.dumps(record) + "\n")
