"""Sample chats made by a hub's own runner: pinned weights, a prompt, a seed, and what came out of them.

The engine runs in its worker process, never in the hub's. Each chat is kept as soon as it is whole, with its entry in
the hub's signed log; whoever has the same files gets the same answer with `nomoat run`.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nomoat import __version__
from nomoat.base.errors import EngineError, InputError
from nomoat.base.progress import Progress
from nomoat.base.settings import Settings
from nomoat.run.adapters import AdapterRef
from nomoat.run.build_info import build_info
from nomoat.run.engine import Engine
from nomoat.run.protocol import GenerateResult
from nomoat.run.sampling import SamplingParams
from nomoat.run.thread_record import processor_name
from nomoat.server.hub.sample_prompts import check_prompt
from nomoat.server.hub.sample_weights import Weights, opened_weights
from nomoat.share.registry.history import Commit
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.samples import Sample

__all__ = ["SampleOrder", "make_samples"]

_MOST_PROMPTS = 24
_SCALE = 1.0  # of an adapter: as it was trained
_MOST_CONTEXT_TOKENS = 4096
_GRACE_SECONDS = 15.0
_SAMPLING_NAMES = ("seed", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "max_tokens")


@dataclass(frozen=True)
class SampleOrder:
    """What is asked of which files, and within what limits.

    `selector` chooses among several models of a repository. An answer that takes longer than `answer_seconds` is not
    kept. With `replace_earlier` earlier chats of the same commit go when all new ones are made.
    """

    prompts: Sequence[str]
    sampling: SamplingParams
    selector: str = ""
    answer_seconds: float = 600.0
    replace_earlier: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.prompts) <= _MOST_PROMPTS:
            raise InputError(f"{len(self.prompts)} prompts", f"give 1 to {_MOST_PROMPTS}")
        for prompt in self.prompts:
            check_prompt(prompt)
        if self.sampling.seed is None or self.sampling.max_tokens is None:
            raise InputError("sample chats need a seed and a longest answer", "nobody could make them again")


def make_samples(
    registry: Registry, repo: Repo, commit: Commit, order: SampleOrder, progress: Progress
) -> Generator[Sample, None, None]:
    """Answer each prompt and keep the chat; yields each one that is kept. An adapter's base answers beside it.

    Raises `NotFoundError` where this hub does not have what is to be run, `DamagedBlobError`, `NotEnoughMemoryError`,
    `ContextOverflowError`, `EngineError`. What was kept before stays.
    """
    earlier = registry.samples.numbers(repo, commit) if order.replace_earlier else []
    with (
        opened_weights(registry, repo, commit, order.selector, progress) as weights,
        _engine(weights) as engine,
    ):
        chats = _Chats(engine, weights, order, progress)
        files, runner = _file_facts(weights), _runner_facts()
        for number, prompt in enumerate(order.prompts, start=1):
            content = {**chats.answer(prompt, files), **runner}
            is_last = number == len(order.prompts)
            yield registry.samples.add(repo, commit, content, earlier if is_last else ())


@contextlib.contextmanager
def _engine(weights: Weights) -> Iterator[Engine]:
    """An engine that leaves nothing behind: what it keeps to be faster next time is the operator's business."""
    with tempfile.TemporaryDirectory(prefix="nomoat-samples.") as home:
        settings = replace(Settings.from_environment(), home=Path(home), kv_cache_bytes=0, history=False)
        context = min(weights.model.context_length or _MOST_CONTEXT_TOKENS, _MOST_CONTEXT_TOKENS)
        with Engine(weights.model, context_length=context, settings=settings) as engine:
            yield engine


class _Chats:
    """Asks one engine."""

    def __init__(self, engine: Engine, weights: Weights, order: SampleOrder, progress: Progress) -> None:
        self._engine, self._order, self._progress = engine, order, progress
        self._adapters = [AdapterRef(weights.adapter, _SCALE)] if weights.adapter else []
        for adapter in self._adapters:
            engine.check_adapter(adapter)
        answers = len(order.prompts) * (2 if self._adapters else 1)
        progress.start("answering", answers * (order.sampling.max_tokens or 0), "tokens")

    def answer(self, prompt: str, files: Mapping[str, Any]) -> dict[str, Any]:
        """The chat, the `files` that answered, and how the answer was chosen."""
        before, after = {}, self._side("", prompt, self._adapters)
        if self._adapters:
            before = self._side("base_", prompt, [])
        sampling = {name: getattr(self._order.sampling, name) for name in _SAMPLING_NAMES}
        return {"prompt": prompt, **before, **after, **files, **sampling}

    def _side(self, prefix: str, prompt: str, adapters: Sequence[AdapterRef]) -> dict[str, Any]:
        text, result = self._one(prompt, adapters)
        counts = {} if prefix else {"prompt_tokens": result.prompt_tokens, "threads": result.threads}
        return {f"{prefix}answer": text, f"{prefix}finish_reason": result.finish_reason,
                f"{prefix}tokens": result.completion_tokens, **counts}  # fmt: skip

    def _one(self, prompt: str, adapters: Sequence[AdapterRef]) -> tuple[str, GenerateResult]:
        messages = [{"role": "user", "content": prompt}]
        # Nothing that came before may change the answer, not even in the last bit: so nothing is reused.
        with self._engine.chat(messages, self._order.sampling, adapters, reuse=False) as generation:
            with _time_limit(self._order.answer_seconds, generation.cancel, self._engine.close):
                pieces = []
                for chunk in generation:
                    pieces.append(chunk.text)
                    self._progress.advance(len(chunk.token_ids))
        result = generation.result
        if result is None or result.finish_reason == "cancelled":
            raise EngineError(f"the answer to {prompt[:60]!r} took longer than {self._order.answer_seconds:g} s",
                              "allow fewer tokens, or more seconds; nothing of this one was kept")  # fmt: skip
        self._progress.advance((self._order.sampling.max_tokens or 0) - result.completion_tokens)
        return "".join(pieces), result


@contextlib.contextmanager
def _time_limit(seconds: float, ask: Callable[[], None], end: Callable[[], None]) -> Iterator[None]:
    """Ask for an end after `seconds`, and make one where that does not help."""
    timers = [threading.Timer(seconds, ask), threading.Timer(seconds + _GRACE_SECONDS, end)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def _file_facts(weights: Weights) -> dict[str, Any]:
    """Which bytes answered."""
    model, adapter = weights.model_place, weights.adapter_place
    facts: dict[str, Any] = {
        "model": str(model.repo.name), "model_file": model.entry.path, "model_commit": model.commit.oid,
        "model_digest": model.digest, "quantisation": weights.model.quantisation,
    }  # fmt: skip
    if adapter is not None:
        facts |= {"adapter": str(adapter.repo.name), "adapter_file": adapter.entry.path,
                  "adapter_digest": adapter.digest, "adapter_scale": _SCALE}  # fmt: skip
    if weights.adapter_config is not None:
        facts["adapter_config_digest"] = weights.adapter_config.digest
    return facts


def _runner_facts() -> dict[str, Any]:
    """Which program answered, and on what: the last bits of sums differ between processors."""
    build = build_info()
    return {
        "made_by": "this hub's own runner", "runner": f"nomoat {__version__}",
        "engine": f"llama.cpp of llama-cpp-python {build.version}", "instructions": ", ".join(build.features),
        "processor": processor_name(),
    }  # fmt: skip
