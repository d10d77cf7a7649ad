"""What is decided once for a run and repeated by every resume, so that the bits come out the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nomoat.base.digests import sha256_bytes, sha256_file
from nomoat.formats.gguf_file import GGUFFile
from nomoat.tune.architecture import read_architecture
from nomoat.tune.config import TuneConfig, config_to_toml
from nomoat.tune.memory import MemoryPlan, plan_memory
from nomoat.tune.network import adapter_modules
from nomoat.tune.precision import PRECISIONS, probe_precision

__all__ = ["RunPlan", "fingerprint", "make_plan"]


@dataclass(frozen=True)
class RunPlan:
    """Compute type with the rates that chose it, memory layout, threads."""

    precision: str
    bf16_flops: float
    fp32_flops: float
    memory: MemoryPlan
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """The compute dtype."""
        return PRECISIONS[self.precision]

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RunPlan:
        """The plan that `as_json` wrote."""
        return cls(**{**content, "memory": MemoryPlan(**content["memory"])})


def make_plan(gguf: GGUFFile, config: TuneConfig) -> RunPlan:
    """Probe this machine and fit the run into its memory."""
    precision = probe_precision(config.precision)
    modules = adapter_modules(gguf, list(config.target_modules))
    count = sum(config.r * (m.in_features + m.out_features) for m in modules)
    memory = plan_memory(
        read_architecture(gguf), gguf.size_bytes, count, precision.dtype, config.batch_tokens,
        config.max_length, config.memory_bytes,
    )  # fmt: skip
    return RunPlan(
        precision.name, precision.bf16_flops, precision.fp32_flops, memory, torch.get_num_threads()
    )


def fingerprint(base_digest: str, dataset: Path, config: TuneConfig, plan: RunPlan) -> str:
    """Digest of all that shapes a run's result; a resume with another one is refused.

    How long the run may take and how often it saves may change between sessions.
    """
    lasting = replace(config, budget_seconds=None, memory_bytes=None, checkpoint_seconds=1.0)
    files = [sha256_file(dataset / name) for name in ("train.jsonl", "valid.jsonl")]
    parts = [base_digest, *files, config_to_toml(lasting), plan.precision, str(plan.memory)]
    return sha256_bytes("\0".join(parts).encode())
