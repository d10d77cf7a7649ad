"""nomoat's side: the trainer as `nomoat tune` runs it, with the plan it makes for this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from nomoat.base.progress import Silent
from nomoat.formats.gguf_file import read_gguf
from nomoat.tune.config import TuneConfig
from nomoat.tune.lora import AdapterParameters
from nomoat.tune.network import Network, adapter_modules
from nomoat.tune.ops import load_ops
from nomoat.tune.packing import pack
from nomoat.tune.run_plan import make_plan
from nomoat.tune.tokenise import Example
from nomoat.tune.trainer import Trainer

from .sides import LEARNING_RATE, LORA_ALPHA, MAX_GRAD_NORM, R, Timing
from .workloads import Workload

__all__ = ["NomoatSide", "shared_share"]


def shared_share(work: Workload) -> float:
    """Share of the documents' tokens that nomoat need not compute, because others of their batch begin alike."""
    batches = [pack(batch) for part in work.rounds for batch in part]
    return 1 - sum(len(batch.tokens) for batch in batches) / sum(batch.n_tokens for batch in batches)


class NomoatSide:
    """Documents packed into steps of about `batch_tokens` tokens; precision and memory as planned."""

    def __init__(
        self, model: Path, folder: Path, batch_tokens: int, max_length: int, *, march: str = "native",
        precision: str = "auto", memory_bytes: int | None = None,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._config = TuneConfig(
            r=R, lora_alpha=LORA_ALPHA, learning_rate=LEARNING_RATE, max_grad_norm=MAX_GRAD_NORM,
            batch_tokens=batch_tokens, max_length=max_length, precision=precision, memory_bytes=memory_bytes,
        )  # fmt: skip
        gguf = read_gguf(model)
        self.plan = make_plan(gguf, self._config)
        modules = adapter_modules(gguf, list(self._config.target_modules))
        parameters = AdapterParameters(modules, R, LORA_ALPHA, self.plan.dtype, self._config.seed)
        # Threads are the caller's choice, so the plan's are left aside.
        self.network = Network(
            gguf, parameters, load_ops(folder / "kernels", march), self.plan.dtype, max_length,
            self.plan.memory.keep, self.plan.memory.recompute,
        )  # fmt: skip
        self.label, self.precision = "nomoat", self.plan.precision

    def loss(self, batch: Sequence[Example]) -> float:
        """Mean loss of the supervised tokens in nats."""
        with torch.no_grad():
            return float(self.network.losses(pack(batch)).mean())

    def train(self, batches: Sequence[Sequence[Example]]) -> Timing:
        """One epoch of the trainer over these documents; its own checkpoint at the end is not timed."""
        examples = [example for batch in batches for example in batch]
        trainer = Trainer(
            self.network, examples, self._config, self.plan.memory.micro_tokens, self._folder, "benchmark"
        )
        trainer.state.total_steps = trainer.batches.steps_per_epoch
        result = trainer.run(Silent(), lambda state: state.total_steps)
        return Timing(result.train_tokens, result.train_seconds)
