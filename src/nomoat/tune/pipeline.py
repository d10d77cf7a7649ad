"""`tune` from end to end: own text in, a proven adapter folder out. Stages read top to bottom.

The engine that will serve the adapter is handed in, as `oracle` and `witness`: training must not depend on serving.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from nomoat import __version__
from nomoat.base.digests import sha256_file
from nomoat.base.errors import BadFileError, InputError
from nomoat.base.manifests import write_manifest
from nomoat.base.progress import Progress
from nomoat.formats.chat_template import ChatTemplate
from nomoat.formats.fingerprint import tensor_fingerprint
from nomoat.formats.gguf_file import GGUFFile, read_gguf
from nomoat.formats.vocabulary import Vocabulary
from nomoat.store.adapters import TENSORS_FIELD
from nomoat.tune.architecture import read_architecture
from nomoat.tune.dataset import prepare, read_rows
from nomoat.tune.evaluate import HeldOut, evaluate, improvement
from nomoat.tune.export import GGUF_NAME, LogitsOracle, Verification, export_adapter, verify_adapter
from nomoat.tune.lora import AdapterParameters
from nomoat.tune.machine import describe_machine
from nomoat.tune.network import Network, adapter_modules
from nomoat.tune.ops import load_ops
from nomoat.tune.planner import Planner
from nomoat.tune.result import TuneRequest, TuneResult
from nomoat.tune.run_folder import RunFolder
from nomoat.tune.run_plan import RunPlan, fingerprint, make_plan
from nomoat.tune.tokenise import Example, tokenise
from nomoat.tune.trainer import METRICS_NAME, Trainer, TrainResult

__all__ = ["Witness", "finish", "tune"]

KIND = "adapter"
_AFTERWARDS_SECONDS = 10.0  # export, verification and report


class Witness(Protocol):
    """Someone who looks at the model before training and at the adapter after it, such as an examination."""

    def before(self, dataset: Path) -> None:
        """The dataset folder is ready, nothing is trained yet."""

    def after(self, adapter: Path) -> None:
        """The adapter file is written and verified."""


def tune(
    request: TuneRequest,
    progress: Progress,
    oracle: LogitsOracle | None = None,
    witness: Witness | None = None,
) -> TuneResult:
    """Prepare, evaluate, train, evaluate again, export and verify. `finish` then makes the folder an adapter.

    Raises `NomoatError`s for bad input, and `KeyboardInterrupt` with all saved when `request.should_stop`.
    """
    started = time.monotonic()
    gguf = read_gguf(request.base.path)
    request = _within_context(request, gguf, progress)
    with RunFolder(request.out).held():
        return _tune(_opened(request, gguf, progress), started, progress, oracle, witness)


def _tune(
    run: _Run, started: float, progress: Progress, oracle: LogitsOracle | None, witness: Witness | None
) -> TuneResult:
    request = run.request
    looking = time.monotonic()
    before = run.held_out(progress, base=True)
    if witness is not None:
        witness.before(run.folder.dataset)
    look_seconds = time.monotonic() - looking
    trainer = run.trainer()
    training = _train(trainer, started, look_seconds, progress)
    adapter = request.out / GGUF_NAME
    export_adapter(run.network, request.base.digest, _details(request), request.out)
    checked = _verify(run, adapter, oracle, progress)
    after = run.held_out(progress, base=False)
    if witness is not None:
        witness.after(adapter)
    return TuneResult(
        request, run.plan, training, before, after, improvement(before, after), checked,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.monotonic() - started,
    )  # fmt: skip


def finish(result: TuneResult, extra_files: Sequence[str] = ()) -> None:
    """Write the manifest, which makes the folder a finished adapter, and drop the checkpoint."""
    request = result.request
    names = ["adapter_model.safetensors", "adapter_config.json", GGUF_NAME, "config.toml", METRICS_NAME]
    dataset_digest = sha256_file(request.out / "dataset" / "manifest.json")
    parents = {"base": request.base.digest, "dataset": dataset_digest}
    details = {**result.as_json(), "made_by": f"nomoat {__version__}", "machine": describe_machine(),
               TENSORS_FIELD: tensor_fingerprint(read_gguf(request.base.path))}  # fmt: skip
    write_manifest(request.out, KIND, [*names, *extra_files], parents, details)
    RunFolder(request.out).remove_checkpoint()


@dataclass(frozen=True)
class _Run:
    """An opened run: its folder, its tokens, its plan and its network."""

    request: TuneRequest
    folder: RunFolder
    train: list[Example]
    valid: list[Example]
    plan: RunPlan
    network: Network

    def held_out(self, progress: Progress, *, base: bool) -> HeldOut:
        """Held-out loss of the base alone, or with the adapter."""
        self.network.without_adapters(base)
        label = "held-out loss " + ("before" if base else "after")
        loss = evaluate(self.network, self.valid, self.plan.memory.micro_tokens, progress, label)
        self.network.without_adapters(False)
        return loss

    def trainer(self) -> Trainer:
        """The trainer; from here on the folder holds a run that can be resumed."""
        request, plan = self.request, self.plan
        identity = fingerprint(request.base.digest, self.folder.dataset, request.config, plan)
        if not self.folder.has_plan:
            self.folder.write_plan(request.config, plan, identity)
        return Trainer(
            self.network, self.train, request.config, plan.memory.micro_tokens, request.out, identity,
            request.should_stop,
        )  # fmt: skip


def _opened(request: TuneRequest, gguf: GGUFFile, progress: Progress) -> _Run:
    folder = RunFolder(request.out)
    folder.open(request.resume)
    resumed = _resumed_plan(request, folder) if folder.has_plan else None
    if resumed is None:
        _prepare(request, folder, progress)
    train, valid = _tokenised(request, gguf, folder, progress)
    plan = resumed or make_plan(gguf, request.config)
    return _Run(request, folder, train, valid, plan, _network(request, gguf, plan))


def _within_context(request: TuneRequest, gguf: GGUFFile, progress: Progress) -> TuneRequest:
    """The request with no document longer than the model can read; refuses a model that cannot be trained."""
    most = read_architecture(gguf).context_length
    if request.config.max_length <= most:
        return request
    progress.say(f"the model reads {most:,} tokens at most: that is the longest document here, too")
    return replace(request, config=replace(request.config, max_length=most))


def _resumed_plan(request: TuneRequest, folder: RunFolder) -> RunPlan:
    """The plan of the run in `folder`, which must have been asked for the same thing."""
    plan, identity = folder.read_plan()
    if not folder.has_dataset:
        raise BadFileError(folder.dataset, "", "is missing or damaged", "start the run anew in another --out")
    if identity != fingerprint(request.base.digest, folder.dataset, request.config, plan):
        raise InputError(f"{folder.path}: the run there has another base, dataset or option than this one",
                         "repeat the options of the first run, or choose another --out")  # fmt: skip
    folder.write_config(request.config)  # a kill may have come between the plan and it
    return plan


def _prepare(request: TuneRequest, folder: RunFolder, progress: Progress) -> None:
    config = request.config
    summary = prepare(
        request.source, folder.dataset, valid_share=config.valid_share, seed=config.seed,
        skip_bad=request.skip_bad, exclude=(request.out,), progress=progress,
    )  # fmt: skip
    for sentence in summary.sentences():
        progress.say(sentence)


def _tokenised(
    request: TuneRequest, gguf: GGUFFile, folder: RunFolder, progress: Progress
) -> tuple[list[Example], list[Example]]:
    config, template = request.config, ChatTemplate.from_gguf(gguf)
    progress.start("tokenise")
    with Vocabulary.open(request.base.path) as vocabulary:
        (train, summary), (valid, _) = (
            tokenise(
                read_rows(folder.dataset, part), vocabulary, template, config.max_length, config.train_on
            )
            for part in ("train", "valid")
        )
    progress.finish()
    for sentence in summary.sentences(config.max_length):
        progress.say(sentence)
    if not train or not valid:
        missing = "hold out" if train else "learn from"
        raise InputError(f"{request.source}: nothing to {missing} after tokenising",
                         "add more text, or raise --max-length")  # fmt: skip
    return train, valid


def _network(request: TuneRequest, gguf: GGUFFile, plan: RunPlan) -> Network:
    config, memory = request.config, plan.memory
    torch.set_num_threads(plan.threads)
    modules = adapter_modules(gguf, list(config.target_modules))
    parameters = AdapterParameters(modules, config.r, config.lora_alpha, plan.dtype, config.seed)
    ops = load_ops(request.cache)
    return Network(gguf, parameters, ops, plan.dtype, config.max_length, memory.keep, memory.recompute)


def _train(trainer: Trainer, started: float, look_seconds: float, progress: Progress) -> TrainResult:
    config, planner = trainer.config, Planner(trainer.config, trainer.batches)
    resumed = trainer.resume()
    if resumed:
        progress.say(f"resumed at step {trainer.state.step} of {trainer.state.total_steps}")
    if config.budget_seconds is None:
        if not resumed:
            trainer.state.total_steps = planner.fixed()
    else:
        # Looking at the held-out text took some time before training, and will take as much after it.
        deadline = started + config.budget_seconds - look_seconds - _AFTERWARDS_SECONDS
        trainer.state.total_steps = planner.until(deadline, trainer.probe_seconds(), trainer.state.step)
    progress.say(planner.sentence(trainer.state.total_steps))
    return trainer.run(progress, planner.replan)


def _verify(run: _Run, adapter: Path, oracle: LogitsOracle | None, progress: Progress) -> Verification | None:
    if oracle is None:
        return None
    progress.start("verify against llama.cpp")
    checked = verify_adapter(run.network, run.valid, adapter, oracle)
    progress.finish()
    return checked


def _details(request: TuneRequest) -> dict[str, object]:
    """What the adapter's own files say of where they come from: a name, never a path of the owner's disk."""
    return {
        "base": Path(request.base.name).name,
        "licence": request.base.licence,
        "made_by": f"nomoat {__version__}",
    }
