"""A long prompt after a restart: its state read from disk, beside evaluating it again.

    kv_restore.py [--tokens N] [--rounds N]

Warm: the file is in the system's file cache, as after a restart of the program. Cold: it is read from the disk, as
after a restart of the machine. Prints one JSON object for scripts/bench_tables.py.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nomoat.base.settings import Settings
from nomoat.measure.machine import describe_machine
from nomoat.run.context import Context, Part
from nomoat.run.error_log import ErrorLog
from nomoat.run.kv.file import is_whole, read_entry
from nomoat.run.kv.store import KVStore, Stored
from nomoat.run.llama import Model
from nomoat.run.threads import usable_cores
from nomoat.store.embedded import find_embedded, missing_embedded

__all__ = ["main"]

_SEQUENCE = 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1500, help="length of the prompt")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each step")
    options = parser.parse_args()
    path = find_embedded(Settings.from_environment())
    if path is None:
        raise missing_embedded()
    model = Model(path, ErrorLog())
    tokens = model.tokenize("\n".join(topics.values()), True, False)[: options.tokens]
    context = Context(model, options.tokens + 64, usable_cores())
    # Not in /tmp, which may be memory: the cold reading must reach the disk on which the cache would lie.
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        print(json.dumps(_report(_measure(context, tokens, Path(folder), options.rounds), len(tokens))))


def _measure(context: Context, tokens: list[int], folder: Path, rounds: int) -> dict[str, float]:
    """Milliseconds of each step, medians; and sizes."""
    found = {"prefill": _milliseconds(lambda: _prefill(context, tokens), min(rounds, 3))}
    state = context.state(_SEQUENCE)
    found["copy"] = _milliseconds(lambda: context.state(_SEQUENCE), rounds)
    store = KVStore(folder, 1 << 32)
    saves = [_save(store, f"scope {number}", tokens, state.copy()) for number in range(rounds)]
    found["hand over"], found["write"] = (statistics.median(times) for times in zip(*saves, strict=True))
    store.close()
    store = KVStore(folder, 1 << 32)
    stored = store.longest("scope 0", [*tokens, 1])
    assert stored is not None
    found["find"] = _milliseconds(lambda: store.longest("scope 0", [*tokens, 1]), rounds)
    found["verify"] = _milliseconds(lambda: _verify(stored), rounds)
    found["into llama.cpp"] = _milliseconds(lambda: _restore(context, state.data), rounds)
    found["warm"] = _milliseconds(lambda: _load(context, store, stored), rounds)
    found["cold"] = _milliseconds(lambda: _load(context, store, stored), rounds, lambda: _evict(stored))
    found["MB"] = state.nbytes / 1e6
    found["zlib"] = len(zlib.compress(state.data, 6)) / state.nbytes
    return found


def _save(store: KVStore, scope: str, tokens: list[int], state: NDArray[np.uint8]) -> tuple[float, float]:
    """Milliseconds until the state is handed over, and until it is on the disk."""
    start = time.perf_counter()
    store.save(scope, tokens, state.data)
    handed_over = time.perf_counter()
    store.flush(60)
    return 1000 * (handed_over - start), 1000 * (time.perf_counter() - start)


def _milliseconds(work: Callable[[], object], rounds: int, before: Callable[[], None] | None = None) -> float:
    times = []
    for _ in range(rounds):
        if before is not None:
            before()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def _prefill(context: Context, tokens: list[int]) -> None:
    context.clear()
    for start in range(0, len(tokens), context.batch_tokens):
        context.evaluate([Part(_SEQUENCE, start, tokens[start : start + context.batch_tokens], 1)])
    context.logits(1)


def _restore(context: Context, view: memoryview) -> None:
    context.clear()
    assert context.restore(_SEQUENCE, view)


def _load(context: Context, store: KVStore, stored: Stored) -> None:
    assert store.load(stored, lambda view: _restore(context, view))


def _verify(stored: Stored) -> None:
    with stored.entry.path.open("rb") as handle:
        entry = read_entry(handle, stored.entry.path)
        assert entry is not None
        assert is_whole(handle, entry)


def _evict(stored: Stored) -> None:
    handle = os.open(stored.entry.path, os.O_RDONLY)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def _report(found: dict[str, float], n_tokens: int) -> dict[str, Any]:
    steps = {
        "evaluate the prompt": "prefill", "restore from disk, file in the system's cache": "warm",
        "restore from disk, cold": "cold", "of which: find the entry": "find",
        "of which: verify the checksum": "verify", "of which: copy into llama.cpp": "into llama.cpp",
        "save: copy out of llama.cpp": "copy", "save: hand over": "hand over",
        "save: write and sync, in the background": "write",
    }  # fmt: skip
    return {
        "title": f"A prompt of {n_tokens:,} tokens on SmolLM2-135M after a restart",
        "machine": describe_machine(),
        "columns": ["step", "ms", "evaluating takes so many times as long"],
        "rows": [[step, found[key], found["prefill"] / found[key]] for step, key in steps.items()],
        "notes": [f"The state has {found['MB']:.1f} MB; zlib would leave {100 * found['zlib']:.0f} % of it."],
        "medians": found,
    }


if __name__ == "__main__":
    main()
