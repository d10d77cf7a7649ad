"""Sample chats made by a hub's own runner: pinned weights, a prompt, a seed, and what came out of them.

The engine runs in its worker process, never in the hub's. Each chat is kept as soon as it is whole, with its entry in
the hub's signed log; whoever has the same files gets the same answer with `nomoat run`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nomoat import __version__
from nomoat.base.errors import BadFileError, EngineError, InputError, TimeLimitError
from nomoat.base.progress import Progress
from nomoat.base.settings import Settings
from nomoat.formats.chat_template import Message
from nomoat.run.adapters import AdapterRef
from nomoat.run.build_info import build_info
from nomoat.run.engine import Engine
from nomoat.run.protocol import GenerateResult
from nomoat.run.sampling import SamplingParams
from nomoat.run.thread_record import processor_name
from nomoat.server.hub.sample_prompts import check_prompt
from nomoat.server.hub.sample_weights import Weights, opened_weights
from nomoat.share.checks.template_trial import try_template
from nomoat.share.registry.history import Commit
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.samples import Sample

__all__ = ["SampleOrder", "Unanswered", "make_samples"]

_MOST_PROMPTS = 24
_SCALE = 1.0  # of an adapter: as it was trained
_MOST_CONTEXT_TOKENS = 4096
_AGAIN_SECONDS = 0.5
_SAMPLING_NAMES = ("seed", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "max_tokens")


@dataclass(frozen=True)
class SampleOrder:
    """What is asked of which files, and within what limits.

    `selector` chooses among several models of a repository. Loading may take `load_seconds`, an answer
    `answer_seconds`. With `replace_earlier` earlier chats of the same commit go when all new ones are made.
    """

    prompts: Sequence[str]
    sampling: SamplingParams
    selector: str = ""
    load_seconds: float = 600.0
    answer_seconds: float = 600.0
    replace_earlier: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.prompts) <= _MOST_PROMPTS:
            raise InputError(f"{len(self.prompts)} prompts", f"give 1 to {_MOST_PROMPTS}")
        for prompt in self.prompts:
            check_prompt(prompt)
        if self.sampling.seed is None or self.sampling.max_tokens is None:
            raise InputError("sample chats need a seed and a longest answer", "nobody could make them again")


@dataclass(frozen=True)
class Unanswered:
    """A prompt that was given up: its answer took too long. Nothing of it was kept."""

    prompt: str
    why: str


def make_samples(
    registry: Registry, repo: Repo, commit: Commit, order: SampleOrder, progress: Progress
) -> Generator[Sample | Unanswered, None, None]:
    """Answer each prompt and keep the chat; yields each one that is kept, or why it is not. An adapter's base answers
    beside it.

    After an answer that took too long the next prompt gets a new worker, and no earlier chat goes. Raises
    `NotFoundError` where this hub does not have what is to be run, `TimeLimitError` where the model does not load in
    time, `DamagedBlobError`, `NotEnoughMemoryError`, `ContextOverflowError`, `EngineError`. What was kept before stays.
    """
    earlier = registry.samples.numbers(repo, commit) if order.replace_earlier else []
    with (
        opened_weights(registry, repo, commit, order.selector, progress) as weights,
        _engine(weights) as engine,
    ):
        chats = _Chats(engine, weights, order, progress)
        files, runner = _file_facts(weights), _runner_facts()
        for number, prompt in enumerate(order.prompts, start=1):
            chats.load()
            try:
                content = {**chats.answer(prompt, files), **runner}
            except TimeLimitError as error:
                earlier = []  # they go when all new ones are there, which will not be
                yield Unanswered(prompt, error.message)
                continue
            is_last = number == len(order.prompts)
            yield registry.samples.add(repo, commit, content, earlier if is_last else ())


@contextlib.contextmanager
def _engine(weights: Weights) -> Iterator[Engine]:
    """An engine that leaves nothing behind: what it keeps to be faster next time is the operator's business."""
    settings = replace(
        Settings.from_environment(), home=weights.work / "home", kv_cache_bytes=0, history=False
    )
    context = min(weights.model.context_length or _MOST_CONTEXT_TOKENS, _MOST_CONTEXT_TOKENS)
    with contextlib.closing(Engine(weights.model, context_length=context, settings=settings)) as engine:
        yield engine


class _Chats:
    """Asks one engine."""

    def __init__(self, engine: Engine, weights: Weights, order: SampleOrder, progress: Progress) -> None:
        self._engine, self._order, self._progress = engine, order, progress
        self._model = weights.model_place.entry.path
        self._adapters = [AdapterRef(weights.adapter, _SCALE)] if weights.adapter else []
        for adapter in self._adapters:
            engine.check_adapter(adapter)
        answers = len(order.prompts) * (2 if self._adapters else 1)
        progress.start("answering", answers * (order.sampling.max_tokens or 0), "tokens")

    def load(self) -> None:
        """See that a worker has the model. Raises `TimeLimitError`."""
        with _time_limit(self._order.load_seconds, self._engine.kill, "the model did not load"):
            self._engine.load()

    def answer(self, prompt: str, files: Mapping[str, Any]) -> dict[str, Any]:
        """The chat, the `files` that answered, and how the answer was chosen. Raises `TimeLimitError`."""
        self._check_template(prompt)
        before, after = {}, self._side("", prompt, self._adapters)
        if self._adapters:
            before = self._side("base_", prompt, [])
        sampling = {name: getattr(self._order.sampling, name) for name in _SAMPLING_NAMES}
        return {"prompt": prompt, **before, **after, **files, **sampling}

    def _check_template(self, prompt: str) -> None:
        """It may end for every prompt but this one, and here it would be rendered without a limit."""
        trial = try_template(self._engine.template.source, _messages(prompt))
        if not trial["renders"]:
            raise BadFileError(self._model, "its chat template", f"does not work for {prompt[:60]!r}",
                               "push the model with a chat template that works")  # fmt: skip

    def _side(self, prefix: str, prompt: str, adapters: Sequence[AdapterRef]) -> dict[str, Any]:
        text, result = self._one(prompt, adapters)
        counts = {} if prefix else {"prompt_tokens": result.prompt_tokens, "threads": result.threads}
        return {f"{prefix}answer": text, f"{prefix}finish_reason": result.finish_reason,
                f"{prefix}tokens": result.completion_tokens, **counts}  # fmt: skip

    def _one(self, prompt: str, adapters: Sequence[AdapterRef]) -> tuple[str, GenerateResult]:
        pieces = []
        with _time_limit(self._order.answer_seconds, self._engine.kill, f"{prompt[:60]!r} was not answered"):
            # Nothing that came before may change the answer, not even in the last bit: so nothing is reused.
            chat = self._engine.chat(_messages(prompt), self._order.sampling, adapters, reuse=False)
            with chat as generation:
                for chunk in generation:
                    pieces.append(chunk.text)
                    self._progress.advance(len(chunk.token_ids))
        result = generation.result
        if result is None:
            raise EngineError(f"the answer to {prompt[:60]!r} has no end", "run it again")
        self._progress.advance((self._order.sampling.max_tokens or 0) - result.completion_tokens)
        return "".join(pieces), result


def _messages(prompt: str) -> list[Message]:
    return [{"role": "user", "content": prompt}]


@contextlib.contextmanager
def _time_limit(seconds: float, end: Callable[[], None], what: str) -> Iterator[None]:
    """Call `end` when the block takes longer than `seconds`. Raises `TimeLimitError` where that ends it."""
    is_over, is_late = threading.Event(), threading.Event()

    def watch() -> None:
        if is_over.wait(seconds):
            return
        is_late.set()
        end()
        while not is_over.wait(_AGAIN_SECONDS):  # a worker that was only about to start came after it
            end()

    watcher = threading.Thread(target=watch, name="time-limit", daemon=True)
    watcher.start()
    try:
        yield
    except EngineError as error:
        if not is_late.is_set():
            raise
        raise TimeLimitError(f"{what} within {seconds:g} s", "allow more time with --timeout") from error
    finally:
        is_over.set()
        watcher.join()


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
