"""The worker's one model and all that works on it: context, KV memory, adapters, threads, scheduler."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nomoat.run.adapter_pool import AdapterPool
from nomoat.run.barriers import Barriers
from nomoat.run.calibration import Calibration
from nomoat.run.context import Context
from nomoat.run.curve_record import CurveRecord
from nomoat.run.drafts.cost_curve import CostCurve
from nomoat.run.drafts.history import History
from nomoat.run.drafts.journal import Journal, vocabulary_key
from nomoat.run.error_log import ErrorLog
from nomoat.run.kv.memory import KVMemory
from nomoat.run.kv.parking import Parking
from nomoat.run.kv.shelf import KVShelf
from nomoat.run.kv.store import KVStore, default_cap_bytes, free_bytes
from nomoat.run.llama import AbortFlag, Model
from nomoat.run.machine_load import Room
from nomoat.run.protocol import Load, LoadedModel
from nomoat.run.scheduler import Scheduler
from nomoat.run.speculation import Speculation
from nomoat.run.thread_record import decode_timings
from nomoat.run.threads import ThreadGovernor, usable_cores

__all__ = ["Session"]

_USUAL_SECONDS = 0.02  # of a decode, where it was not timed
_IDLE_SEQUENCES = 16  # that have ended and are kept for prompts that begin alike
# Each recurrent state takes its memory whether it is used or not, and nothing but its own text can go on from it.
_IDLE_STATES = 2
_STATES_BYTES = (
    256 << 20
)  # of them may be parked: dozens of short conversations with a model of 3 billion parameters
_MOST_EMBED_TOKENS = 2048  # a text is read in one evaluation, whose memory grows with it


class Session:
    """Made by `Load`. Not for use by two threads at once."""

    def __init__(
        self, load: Load, abort: AbortFlag, send: Callable[[Any], None], on_progress: Callable[[float], None]
    ) -> None:
        """Load the model and find the best thread count (fixed if the request says so)."""
        path = Path(load.model_path)
        self.barriers = Barriers(usable_cores())
        self.model = Model(path, ErrorLog(), on_progress)
        self.abort, self.context_length = abort, load.context_length
        self.most_embed_tokens = min(_MOST_EMBED_TOKENS, load.context_length)
        cores = load.threads or usable_cores()
        self.context = Context(
            self.model, load.cells or load.context_length, cores, abort=abort,
            sequences=load.parallel + (_IDLE_STATES if self.model.is_recurrent else _IDLE_SEQUENCES),
            barriers=self.barriers,
        )  # fmt: skip
        timings = {cores: 0.0}
        if load.threads is None and cores > 1:
            timings = decode_timings(_TimedDecodes(self.context), cores, Path(load.cache_folder), path)
        self.decode_seconds = timings if load.threads is None else {}
        self.governor = ThreadGovernor(timings, load.threads is not None, Room(usable_cores()))
        self.context.clear()
        self.context.set_threads(self.governor.threads, self.governor.top)
        self.pool = AdapterPool(self.context)
        self.store = _store(load, self.model)
        shelf = KVShelf(self.store, load.model_digest, self.context) if self.store else None
        self.parking = _parking(self.context)
        self.memory = KVMemory(self.context, self.parking, shelf)
        history = _history(load, self.model)
        record = CurveRecord(Path(load.cache_folder), self.governor.threads, path)
        known = record.read()
        curve = CostCurve(known[0]) if known else CostCurve.usual(min(timings.values()) or _USUAL_SECONDS)
        steady = known[1] if known else load.steady_tokens
        self.speculation = Speculation(curve, history, steady, not self.model.is_recurrent)
        self._calibration = None
        if known is None:
            self._calibration = Calibration(self.context, self.memory, self.speculation, record)
        self.scheduler = Scheduler(
            self.context, self.memory, self.pool, self.governor, self.speculation, send,
            parallel=load.parallel, most_tokens=load.context_length, queue=load.queue,
        )  # fmt: skip

    def tidy_up(self) -> bool:
        """Use a quiet moment; False where nothing is left to do."""
        if self.memory.save_one() or self.speculation.remember_one():
            return True
        return self._calibration is not None and self._calibration.advance()

    def close(self, seconds: float) -> None:
        """Keep on disk what was computed, as far as `seconds` allow."""
        end = time.monotonic() + seconds
        self.scheduler.close()
        while time.monotonic() < end and (self.memory.save_one() or self.speculation.remember_one()):
            pass
        if self.store is not None:
            self.store.close(max(0.0, end - time.monotonic()))
        self.barriers.close()

    def stats(self) -> dict[str, float]:
        """Counters since the start, and what is going on now."""
        disk = self.store.stats() if self.store is not None else {}
        return {
            **self.scheduler.stats(),
            "kv_parked_bytes": float(self.parking.n_bytes),
            **{f"kv_disk_{name}": float(n) for name, n in disk.items()},
        }

    def describe(self) -> LoadedModel:
        """What the parent process needs to know of the model."""
        model = self.model
        return LoadedModel(
            self.context_length, model.n_vocab, model.n_embd, model.bos_token_id, model.eos_token_id,
            model.eot_token_id, model.adds_bos, self.governor.threads, self.most_embed_tokens, self.decode_seconds,
            model.fill_in,
        )  # fmt: skip


def _parking(context: Context) -> Parking:
    model = context.model
    return Parking(context.cells, model.cuttable_tokens, _STATES_BYTES if model.is_recurrent else math.inf)


def _store(load: Load, model: Model) -> KVStore | None:
    if not load.kv_folder:
        return None
    folder = Path(load.kv_folder)
    cap_bytes = default_cap_bytes(free_bytes(folder)) if load.kv_bytes is None else load.kv_bytes
    return KVStore(folder, cap_bytes, cuttable_tokens=model.cuttable_tokens)


def _history(load: Load, model: Model) -> History | None:
    if not load.history_folder:
        return None
    return History(Journal(Path(load.history_folder), vocabulary_key(model.n_vocab, model.token_bytes)))


class _TimedDecodes:
    """Single decodes for the measurement, at positions where attention costs next to nothing."""

    def __init__(self, context: Context) -> None:
        self._context, self._position = context, 0

    def __call__(self, threads: int) -> float:
        self._context.set_threads(threads, threads)
        if self._position >= 32:
            self._context.clear()
            self._position = 0
        start = time.perf_counter()
        self._context.evaluate_one(self._context.model.bos_token_id or 0, self._position)
        self._position += 1
        return time.perf_counter() - start
