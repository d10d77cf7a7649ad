"""Decoding beside another program: what spinning at barriers costs, and what nomoat's governor saves.

    decode_busy.py [--rounds N] [--spins 300,1000,10000]

llama.cpp's own loop with all cores, spinning by libgomp's default and by the counts of --spins, with one core,
and nomoat with its own choice of threads; each on a machine left alone and with one other program running.
Prints one JSON object for scripts/bench_tables.py; tells its progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from decode_yardstick import Yardstick, build, other_programs, prompt, wait_for_quiet

from nomoat.base.settings import OPENMP, Settings
from nomoat.measure.machine import describe_machine
from nomoat.run.engine import Engine
from nomoat.run.machine_load import OtherLoad
from nomoat.run.sampling import SamplingParams
from nomoat.run.threads import usable_cores
from nomoat.store.embedded import find_embedded, missing_embedded

__all__ = ["main"]

_CONTEXT_TOKENS, _NEW_TOKENS = 512, 64
_QUIET_CORES = 0.1
Decode = Callable[[], float]
"""Decodes once and returns tokens per second."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns of each variant")
    parser.add_argument(
        "--spins", default=f"300,{OPENMP['GOMP_SPINCOUNT']},10000", help="values of GOMP_SPINCOUNT"
    )
    options = parser.parse_args()
    cores = usable_cores()
    if cores < 2:
        return  # nothing to say of a machine with one core
    model = find_embedded(Settings.from_environment())
    if model is None:
        raise missing_embedded()
    with ExitStack() as stack:
        variants = _variants(stack, model, cores, options.spins.split(","))
        alone, load = _measure(variants, options.rounds, "alone")
        with other_programs(1):
            busy, _ = _measure(variants, options.rounds, "beside another program")
    print(json.dumps(_report(alone, busy, load), ensure_ascii=False))


def _variants(stack: ExitStack, model: Path, cores: int, spins: list[str]) -> dict[str, Decode]:
    program = build(Path(stack.enter_context(tempfile.TemporaryDirectory())))
    kinds: list[tuple[str, int, dict[str, str]]] = [
        (f"llama.cpp, {cores} threads", cores, {}),
        *((f"llama.cpp, {cores} threads, spin {spin}", cores, {"GOMP_SPINCOUNT": spin}) for spin in spins),
        ("llama.cpp, 1 thread", 1, {}),
    ]
    found: dict[str, Decode] = {}
    for label, threads, environment in kinds:
        loop = Yardstick(program, model, threads, _NEW_TOKENS, _CONTEXT_TOKENS, environment)
        stack.enter_context(closing(loop))
        found[label] = lambda loop=loop: loop.trial().tokens_per_second  # type: ignore[misc]
    engine = stack.enter_context(Engine(model, context_length=_CONTEXT_TOKENS))
    found["nomoat"] = lambda: _answer(engine)
    return found


def _measure(variants: dict[str, Decode], rounds: int, when: str) -> tuple[dict[str, list[float]], float]:
    """Rates of each variant, in random order within a round, and the cores that others used."""
    found: dict[str, list[float]] = {label: [] for label in variants}
    for decode in variants.values():
        decode()
    load = OtherLoad()
    for number in range(rounds):
        for label in random.sample(list(variants), len(variants)):
            wait_for_quiet(_QUIET_CORES)
            found[label].append(variants[label]())
        rates = ", ".join(f"{label}: {values[-1]:.0f}" for label, values in found.items())
        sys.stderr.write(f"{when}, round {number + 1}: {rates}\n")
    return found, round(load.cores(), 2)


def _answer(engine: Engine) -> float:
    options = SamplingParams(temperature=0, max_tokens=_NEW_TOKENS, ignore_end=True)
    first = 0.0
    for _ in engine.generate(prompt(), options, reuse=False, speculate=False):
        first = first or time.perf_counter()
    return (_NEW_TOKENS - 1) / (time.perf_counter() - first)


def _report(alone: dict[str, list[float]], busy: dict[str, list[float]], load: float) -> dict[str, Any]:
    return {
        "title": "Decoding SmolLM2-135M beside another program",
        "machine": describe_machine(),
        "columns": ["variant", "alone, tok/s", "beside a program that takes one core, tok/s"],
        "rows": [[label, statistics.median(alone[label]), statistics.median(busy[label])] for label in alone],
        "notes": [
            f"Greedy, {_NEW_TOKENS} tokens, medians of {len(next(iter(alone.values())))} rounds in random order."
            f" While alone, other programs still used {load:.2f} cores."
        ],
        "alone": alone,
        "busy": busy,
    }


if __name__ == "__main__":
    main()
