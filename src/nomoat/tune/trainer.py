"""The training loop: steps, metrics, checkpoints. Knows nothing of files of text, models' names or reports."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim.adamw import adamw

from nomoat.base.errors import BadFileError, NomoatError
from nomoat.base.files import disk_errors
from nomoat.base.progress import Progress
from nomoat.tune.batches import Batches, split_micro
from nomoat.tune.checkpoint import RunState, load_checkpoint, save_checkpoint
from nomoat.tune.config import TuneConfig
from nomoat.tune.network import Network
from nomoat.tune.packing import pack
from nomoat.tune.schedule import learning_rate
from nomoat.tune.tokenise import Example

__all__ = ["CHECKPOINT_NAME", "METRICS_NAME", "TrainResult", "Trainer"]

CHECKPOINT_NAME = "checkpoint.safetensors"
METRICS_NAME = "metrics.jsonl"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainResult:
    """Sums over the whole run, sessions before a resume included."""

    steps: int
    train_tokens: int
    train_seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Real tokens; padding does not exist."""
        return self.train_tokens / max(self.train_seconds, 1e-9)


class Trainer:
    """One run in one folder, from step 0 or from its checkpoint."""

    def __init__(
        self, network: Network, examples: Sequence[Example], config: TuneConfig, micro_tokens: int,
        folder: Path, fingerprint: str, should_stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.network, self.examples, self.config = network, examples, config
        self.should_stop = should_stop
        self.folder, self.micro_tokens = folder, micro_tokens
        self.lengths = [len(example.tokens) for example in examples]
        self.batches = Batches(self.lengths, config.batch_tokens, config.seed)
        self.state = RunState(fingerprint)
        self._parameters = network.parameters
        self._moments = {name: torch.zeros_like(self._parameters.values) for name in _MOMENTS}
        self._updates = torch.tensor(0.0)

    def resume(self) -> bool:
        """Take up the run that the folder holds; False where there is none yet.

        Raises `NomoatError` where the folder's run had another base, dataset or config.
        """
        path = self.folder / CHECKPOINT_NAME
        if not path.is_file():
            return False
        state, tensors = load_checkpoint(path)
        if state.fingerprint != self.state.fingerprint:
            raise NomoatError(f"{path}: this run has another base, dataset or option than the one to resume",
                              "repeat the options of the first run, or choose another --out")  # fmt: skip
        self.state = state
        with torch.no_grad():
            self._parameters.values.copy_(tensors["values"])
        self._moments = {name: tensors[name] for name in _MOMENTS}
        self._updates = torch.tensor(float(state.step))
        self._parameters.refresh()
        return True

    def run(self, progress: Progress, replan: Callable[[RunState], int]) -> TrainResult:
        """Train until `state.total_steps`; `replan` is asked after every step how many there shall be.

        Raises `KeyboardInterrupt`, with everything saved, when `should_stop` says so after a step.
        """
        metrics_path = self.folder / METRICS_NAME
        progress.start("train", max(1, self.state.total_steps), "steps")
        progress.advance(self.state.step)
        saved = time.monotonic()
        with disk_errors(metrics_path), metrics_path.open("ab") as metrics:
            if os.fstat(metrics.fileno()).st_size < self.state.metrics_bytes:
                raise BadFileError(metrics_path, "", "is shorter than at the last checkpoint",
                                   "restore it, or start anew in another --out")  # fmt: skip
            metrics.truncate(self.state.metrics_bytes)
            while self.state.step < self.state.total_steps:
                record = self._step()
                metrics.write((json.dumps(record) + "\n").encode())
                progress.advance(1, f"loss {record['loss']:.3f}  {record['tokens_per_second']:.0f} tok/s")
                self.state.total_steps = max(self.state.step, replan(self.state))
                if self.should_stop():
                    break
                if time.monotonic() - saved > self.config.checkpoint_seconds:
                    self._save(metrics.fileno(), metrics.flush)
                    saved = time.monotonic()
            self._save(metrics.fileno(), metrics.flush)
        progress.finish()
        if self.state.step < self.state.total_steps:
            raise KeyboardInterrupt
        return TrainResult(self.state.step, self.state.train_tokens, self.state.train_seconds)

    def probe_seconds(self) -> float:
        """Seconds of one step on this machine and this data, measured once it is warm; nothing is learned."""
        seconds = 0.0
        for _ in range(2):
            started = time.perf_counter()
            for part in split_micro(self.batches.step(self.state.step), self.lengths, self.micro_tokens):
                self.network.train(pack([self.examples[i] for i in part]), 1.0)
            seconds = time.perf_counter() - started
        self._parameters.gradients.zero_()
        return seconds

    def _step(self) -> dict[str, float]:
        """One optimiser step; its record for metrics.jsonl."""
        started = time.perf_counter()
        state, config = self.state, self.config
        indices = self.batches.step(state.step)
        total = sum(int(self.examples[i].supervised[1:].sum()) for i in indices)
        tokens, loss = 0, 0.0
        for part in split_micro(indices, self.lengths, self.micro_tokens):
            batch = pack([self.examples[i] for i in part])
            loss += float(self.network.train(batch, 1.0 / total).sum())
            tokens += batch.n_tokens
        norm = float(self._parameters.gradients.norm())
        rate = learning_rate(config.learning_rate, state.step, state.total_steps, config.warmup_share)
        self._update(norm, rate)
        seconds = time.perf_counter() - started
        state.step += 1
        state.train_tokens += tokens
        state.train_seconds += seconds
        return {"step": state.step, "loss": loss / total, "learning_rate": rate, "grad_norm": norm,
                "tokens": state.train_tokens, "tokens_per_second": tokens / seconds}  # fmt: skip

    def _update(self, norm: float, rate: float) -> None:
        if not norm < float("inf"):
            raise self._diverged("gradient")
        if norm > self.config.max_grad_norm:
            self._parameters.gradients.mul_(self.config.max_grad_norm / norm)
        # The function: making torch.optim.AdamW loads torch's compiler, which takes more than a second.
        adamw(
            [self._parameters.values], [self._parameters.gradients], [self._moments["exp_avg"]],
            [self._moments["exp_avg_sq"]], [], [self._updates], fused=True, amsgrad=False, beta1=0.9, beta2=0.99,
            lr=rate, weight_decay=self.config.weight_decay, eps=1e-8, maximize=False,
        )  # fmt: skip
        self._parameters.gradients.zero_()
        self._parameters.refresh()

    def _diverged(self, what: str) -> NomoatError:
        return NomoatError(
            f"training diverged at step {self.state.step + 1}: the {what} is not finite",
            "start anew with a lower --learning-rate in another --out; the checkpoint of an earlier step is intact",
        )

    def _save(self, handle: int, flush: Callable[[], None]) -> None:
        if not self._parameters.values.isfinite().all():
            raise self._diverged("adapter")  # never over a checkpoint that is good
        # Metrics first: the checkpoint must never speak of lines that a power cut could take back.
        flush()
        os.fsync(handle)
        self.state.metrics_bytes = os.fstat(handle).st_size
        tensors = {"values": self._parameters.values, **self._moments}
        save_checkpoint(self.folder / CHECKPOINT_NAME, self.state, tensors)
