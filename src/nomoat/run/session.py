"""The worker's one model under evaluation: what the KV memory holds, which adapters, how many threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nomoat.base.errors import InputError
from nomoat.run.error_log import ErrorLog
from nomoat.run.llama import Aborted, AbortFlag, Adapter, Context, Model
from nomoat.run.protocol import AdapterFiles, Load, LoadedModel
from nomoat.run.thread_record import decode_timings
from nomoat.run.threads import ThreadGovernor, usable_cores

__all__ = ["Session", "common_prefix"]

_MOST_ADAPTERS = 16  # loaded at once; beyond, the longest unused is freed


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common beginning of two token lists."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))


class Session:
    """Model, context and what they remember. Not for use by two threads at once."""

    def __init__(self, load: Load, abort: AbortFlag, on_progress: Callable[[float], None]) -> None:
        """Load the model and find the best thread count (fixed if the request says so)."""
        path = Path(load.model_path)
        self.model = Model(path, ErrorLog(), on_progress)
        self.abort = abort
        cores = load.threads or usable_cores()
        self.context = Context(self.model, load.context_length, cores, abort=abort)
        self.tokens: list[int] = []  # what the KV memory holds
        self._adapters: dict[tuple[str, int, int], Adapter] = {}
        self._adapters_in_use: tuple[tuple[tuple[str, int, int], float], ...] = ()
        timings = {cores: 0.0}
        if load.threads is None and cores > 1:
            timings = decode_timings(self._timed_decode, cores, Path(load.cache_folder), path)
        self.decode_seconds = timings if load.threads is None else {}
        self.governor = ThreadGovernor(timings, fixed=load.threads is not None)
        self._last_decode = time.monotonic()
        self.forget()

    def describe(self) -> LoadedModel:
        """What the parent process needs to know of the model."""
        model = self.model
        return LoadedModel(
            self.context.context_length, model.n_vocab, model.n_embd, model.bos_token_id, model.eos_token_id,
            model.eot_token_id, model.adds_bos, self.governor.threads, self.decode_seconds,
        )  # fmt: skip

    def begin(self) -> None:
        """A request starts: more threads are tried soon if the machine had time to calm down."""
        threads = self.governor.begin(time.monotonic() - self._last_decode)
        self.context.set_threads(threads, self.governor.top)

    def evaluate_prompt(self, tokens: Sequence[int], adapters: AdapterFiles, reuse: bool) -> int:
        """Make the context hold `tokens` with logits for the last; returns how many were cached.

        The common beginning of `tokens` and the memory's content is kept when the adapters are the same: keys
        and values depend on them. Raises `InputError` for an empty prompt or one that leaves no room for an
        answer, and `Aborted`.
        """
        self._check_length(tokens)
        same = self.use_adapters(adapters)
        cached = min(common_prefix(self.tokens, tokens), len(tokens) - 1) if reuse and same else 0
        if not self.context.keep_prefix(cached):
            cached = 0
        del self.tokens[cached:]
        self._evaluate(tokens[cached:])
        return cached

    def evaluate_next(self, token_id: int) -> None:
        """Add one token; the governor sees how long it took."""
        start = time.monotonic()
        try:
            self.context.evaluate_one(token_id, len(self.tokens))
        except Aborted:
            self._recover()
            raise
        self._last_decode = time.monotonic()
        self.tokens.append(token_id)
        before = self.governor.threads
        threads = self.governor.observe(self._last_decode - start)
        if threads != before:
            self.context.set_threads(threads, self.governor.top)

    def room(self) -> int:
        """Tokens that the context can still take."""
        return self.context.context_length - len(self.tokens)

    def forget(self) -> None:
        """Empty the KV memory."""
        self.context.clear()
        self.tokens.clear()

    def use_adapters(self, adapters: AdapterFiles) -> bool:
        """Load and apply adapters; returns whether they were in use with these scales already."""
        wanted = tuple((self._adapter_key(path), scale) for path, scale in adapters)
        if wanted == self._adapters_in_use:
            return True
        pairs = [(self._loaded(key), scale) for key, scale in wanted]
        self.context.set_adapters(pairs)
        self._adapters_in_use = wanted
        self._free_unused(_MOST_ADAPTERS)
        self.forget()
        return False

    def unload_adapters(self, keep: Sequence[str]) -> tuple[str, ...]:
        """Free every adapter whose path is not in `keep`; returns the paths still loaded."""
        if any(key[0] not in keep for key, _ in self._adapters_in_use):
            self.use_adapters(())
        for key in [key for key in self._adapters if key[0] not in keep]:
            self.model.free_adapter(self._adapters.pop(key))
        return tuple(key[0] for key in self._adapters)

    def _evaluate(self, tokens: Sequence[int]) -> None:
        for start in range(0, len(tokens), self.context.batch_tokens):
            chunk = tokens[start : start + self.context.batch_tokens]
            last = start + len(chunk) == len(tokens)
            try:
                self.context.evaluate(chunk, len(self.tokens), "last" if last else "none")
            except Aborted:
                self._recover()
                raise
            self.tokens.extend(chunk)

    def _recover(self) -> None:
        """After an abort llama.cpp takes back the interrupted batch; what it cannot take back is emptied."""
        if self.context.held_tokens() != len(self.tokens):
            self.forget()

    def _check_length(self, tokens: Sequence[int]) -> None:
        self.model.check_tokens(tokens)
        if not tokens:
            raise InputError("the prompt is empty", "give it at least one token")
        length = self.context.context_length
        if len(tokens) >= length:
            raise InputError(
                f"the prompt has {len(tokens):,} tokens, but the context holds {length:,} with the answer",
                "shorten it, start the conversation anew, or use a larger --context-length",
            )

    def _timed_decode(self, threads: int) -> float:
        """One decode for the measurement, at a position where attention costs next to nothing."""
        self.context.set_threads(threads, threads)
        if len(self.tokens) >= 32:
            self.forget()
        start = time.perf_counter()
        self.context.evaluate_one(self.model.bos_token_id or 0, len(self.tokens))
        self.tokens.append(0)
        return time.perf_counter() - start

    def _adapter_key(self, path: str) -> tuple[str, int, int]:
        # A file written anew under the same name is another adapter.
        status = Path(path).stat()
        return path, status.st_size, status.st_mtime_ns

    def _loaded(self, key: tuple[str, int, int]) -> Adapter:
        adapter = self._adapters.pop(key, None)
        if adapter is None:
            adapter = self.model.load_adapter(Path(key[0]))
        self._adapters[key] = adapter  # at the end: the dict's order is that of use
        return adapter

    def _free_unused(self, most: int) -> None:
        in_use = {key for key, _ in self._adapters_in_use}
        for key in [key for key in self._adapters if key not in in_use][: max(0, len(self._adapters) - most)]:
            self.model.free_adapter(self._adapters.pop(key))
