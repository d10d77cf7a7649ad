"""`tune` from end to end: own text in, a proven adapter folder out. Stages read top to bottom.

The engine that will serve the adapter is handed in as `oracle`, because training must not depend on serving.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nomoat.base.digests import sha256_bytes, sha256_file
from nomoat.base.errors import InputError
from nomoat.base.manifests import write_manifest
from nomoat.base.progress import Progress
from nomoat.formats.chat_template import ChatTemplate
from nomoat.formats.gguf_file import GGUFFile, read_gguf
from nomoat.formats.vocabulary import Vocabulary
from nomoat.store.records import StoredModel
from nomoat.tune.architecture import read_architecture
from nomoat.tune.config import TuneConfig, config_to_toml
from nomoat.tune.dataset import prepare, read_rows
from nomoat.tune.evaluate import HeldOut, evaluate, improvement
from nomoat.tune.export import LogitsOracle, Verification, export_adapter, verify_adapter
from nomoat.tune.intervals import Interval
from nomoat.tune.lora import AdapterParameters
from nomoat.tune.memory import MemoryPlan, plan_memory
from nomoat.tune.network import Network, adapter_modules
from nomoat.tune.ops import load_ops
from nomoat.tune.packing import pack
from nomoat.tune.planner import Planner
from nomoat.tune.precision import PRECISIONS, probe_precision
from nomoat.tune.run_folder import RunFolder
from nomoat.tune.tokenise import Example, tokenise
from nomoat.tune.trainer import METRICS_NAME, Trainer, TrainResult

__all__ = ["TuneRequest", "TuneResult", "finish", "tune"]

KIND = "adapter"
_AFTER_TRAINING_SECONDS = 8.0  # export, verification and report


@dataclass(frozen=True)
class TuneRequest:
    """What `nomoat tune` was asked for."""

    source: Path
    base: StoredModel
    out: Path
    config: TuneConfig
    cache: Path
    resume: bool = False
    skip_bad: bool = False
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class TuneResult:
    """What it came to; `as_json` is the contract of `nomoat tune --json`."""

    request: TuneRequest
    precision: str
    plan: MemoryPlan
    training: TrainResult
    before: HeldOut
    after: HeldOut
    change: Interval
    verification: Verification | None
    peak_memory_bytes: int
    seconds: float

    @property
    def verdict(self) -> str:
        """`better`, `not better` or `too little text to tell`, by the paired interval of bits per byte."""
        if self.change.high is None:
            return "too little text to tell"
        return "better" if self.change.high < 0 else "not better"

    def as_json(self) -> dict[str, Any]:
        """One flat object with the two evaluations inside."""
        return {
            "adapter": str(self.request.out), "base": self.request.base.name,
            "base_digest": self.request.base.digest, "train_tokens": self.training.train_tokens,
            "train_tokens_per_second": self.training.tokens_per_second, "steps": self.training.steps,
            "precision": self.precision, "peak_memory_bytes": self.peak_memory_bytes,
            "before": self.before.as_json(), "after": self.after.as_json(),
            "change_bits_per_byte": {"value": self.change.estimate, "interval": [self.change.low, self.change.high]},
            "verdict": self.verdict, "tune_seconds": self.seconds,
            "verification": self.verification.as_json() if self.verification else None,
        }  # fmt: skip


def tune(request: TuneRequest, progress: Progress, oracle: LogitsOracle | None = None) -> TuneResult:
    """Prepare, tokenise, evaluate, train, evaluate again, export, verify; the manifest is written by `finish`."""
    started = time.monotonic()
    folder = RunFolder(request.out)
    folder.open(request.resume)
    resuming = request.resume and folder.has_plan
    if not resuming:
        _prepare(request, folder, progress)
    gguf = read_gguf(request.base.path)
    read_architecture(gguf)  # refuse what cannot be trained before any work is done
    train, valid = _tokenised(request, gguf, folder, progress)
    plan = folder.read_plan() if resuming else _plan(request, gguf, folder)
    network = _network(request, gguf, plan)
    trainer = Trainer(network, train, request.config, plan["micro_tokens"], request.out, plan["fingerprint"],
                      request.should_stop)  # fmt: skip
    before = _evaluate(network, valid, plan, progress, before=True)
    before_seconds = time.monotonic() - started
    if not resuming:
        folder.write_plan(request.config, plan)
    training = _train(trainer, request.config, started, before_seconds, progress)
    after = _evaluate(network, valid, plan, progress, before=False)
    details = {"r": request.config.r, "lora_alpha": request.config.lora_alpha, "base": request.base.name}
    export_adapter(network, request.base.digest, details, request.out)
    checked = None
    if oracle is not None:
        progress.start("verify against llama.cpp")
        checked = verify_adapter(network, valid, request.out / "adapter.gguf", oracle)
        progress.finish()
    memory = MemoryPlan(**plan["memory"])
    return TuneResult(request, plan["precision"], memory, training, before, after, improvement(before, after),
                      checked, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                      time.monotonic() - started)  # fmt: skip


def finish(result: TuneResult, extra_files: Sequence[str] = ()) -> None:
    """Write the manifest, which makes the folder a finished adapter, and drop the checkpoint."""
    request = result.request
    names = ["adapter_model.safetensors", "adapter_config.json", "adapter.gguf", "config.toml", METRICS_NAME]
    dataset_digest = sha256_file(request.out / "dataset" / "manifest.json")
    parents = {"base": request.base.digest, "dataset": dataset_digest}
    write_manifest(request.out, KIND, [*names, *extra_files], parents, result.as_json())
    RunFolder(request.out).remove_checkpoint()


def _prepare(request: TuneRequest, folder: RunFolder, progress: Progress) -> None:
    config = request.config
    summary = prepare(request.source, folder.dataset, valid_share=config.valid_share, seed=config.seed,
                      skip_bad=request.skip_bad, exclude=(request.out,), progress=progress)  # fmt: skip
    for sentence in summary.sentences():
        progress.say(sentence)


def _tokenised(
    request: TuneRequest, gguf: GGUFFile, folder: RunFolder, progress: Progress
) -> tuple[list[Example], list[Example]]:
    config, template = request.config, ChatTemplate.from_gguf(gguf)
    progress.start("tokenise")
    with Vocabulary.open(request.base.path) as vocabulary:
        train, summary = tokenise(
            read_rows(folder.dataset, "train"), vocabulary, template, config.max_length, config.train_on
        )
        valid, _ = tokenise(
            read_rows(folder.dataset, "valid"), vocabulary, template, config.max_length, config.train_on
        )
    progress.finish()
    for sentence in summary.sentences(config.max_length):
        progress.say(sentence)
    if not train or not valid:
        raise InputError(f"{request.source}: nothing to {'learn from' if not train else 'hold out'} after tokenising",
                         "add more text, or raise --max-length")  # fmt: skip
    return train, valid


def _plan(request: TuneRequest, gguf: GGUFFile, folder: RunFolder) -> dict[str, Any]:
    """Everything that a resume must repeat for the same bits."""
    config, precision = request.config, probe_precision(request.config.precision)
    modules = adapter_modules(gguf, list(config.target_modules))
    count = sum(config.r * (m.in_features + m.out_features) for m in modules)
    memory = plan_memory(read_architecture(gguf), gguf.size_bytes, count, precision.dtype, config.batch_tokens,
                         config.max_length, config.memory_bytes)  # fmt: skip
    lasting = replace(config, budget_seconds=None, memory_bytes=None, checkpoint_seconds=1.0)
    files = [folder.dataset / "train.jsonl", folder.dataset / "valid.jsonl"]
    parts = [request.base.digest, *map(sha256_file, files), config_to_toml(lasting), precision.name]
    return {
        "precision": precision.name, "bf16_gflops": precision.bf16_flops / 1e9,
        "fp32_gflops": precision.fp32_flops / 1e9, "micro_tokens": memory.micro_tokens, "memory": vars(memory),
        "threads": torch.get_num_threads(), "fingerprint": sha256_bytes("\0".join(parts).encode()),
    }  # fmt: skip


def _network(request: TuneRequest, gguf: GGUFFile, plan: dict[str, Any]) -> Network:
    config, dtype = request.config, PRECISIONS[plan["precision"]]
    torch.set_num_threads(plan["threads"])
    modules = adapter_modules(gguf, list(config.target_modules))
    parameters = AdapterParameters(modules, config.r, config.lora_alpha, dtype, config.seed)
    memory = MemoryPlan(**plan["memory"])
    return Network(
        gguf, parameters, load_ops(request.cache), dtype, config.max_length, memory.keep, memory.recompute
    )


def _evaluate(
    network: Network, valid: list[Example], plan: dict[str, Any], progress: Progress, before: bool
) -> HeldOut:
    network.without_adapters(before)
    held_out = evaluate(
        network, valid, plan["micro_tokens"], progress, "held-out loss " + ("before" if before else "after")
    )
    network.without_adapters(False)
    return held_out


def _train(
    trainer: Trainer, config: TuneConfig, started: float, before_seconds: float, progress: Progress
) -> TrainResult:
    planner = Planner(config, trainer.batches)
    resumed = trainer.resume()
    if not resumed or config.budget_seconds is not None:
        # What the held-out pass took before training, it will take once more after it.
        deadline = started + (config.budget_seconds or 0) - before_seconds - _AFTER_TRAINING_SECONDS
        probe = _probe_step(trainer) if config.budget_seconds is not None else 0.0
        trainer.state.total_steps = max(trainer.state.step, planner.start(deadline, probe))
        progress.say(_plan_sentence(trainer, probe))
    else:
        progress.say(f"resumed at step {trainer.state.step} of {trainer.state.total_steps}")
    return trainer.run(progress, planner.replan)


def _probe_step(trainer: Trainer) -> float:
    """Seconds of one step on this machine and this data, measured once it is warm."""
    batch = pack([trainer.examples[i] for i in trainer.batches.step(0)])
    seconds = 0.0
    for _ in range(2):
        started = time.monotonic()
        trainer.network.train(batch, 1e-6)
        seconds = time.monotonic() - started
    trainer.network.parameters.gradients.zero_()
    return seconds


def _plan_sentence(trainer: Trainer, probe_seconds: float) -> str:
    state = trainer.state
    epochs = state.total_steps / trainer.batches.steps_per_epoch
    sentence = (
        f"plan: {state.total_steps} steps of about {trainer.config.batch_tokens} tokens, {epochs:.1f} epochs"
    )
    return sentence + (f", about {state.total_steps * probe_seconds / 60:.1f} min" if probe_seconds else "")
