"""Decoding through nomoat's engine, as its user gets the tokens, against llama.cpp's own loop in C.

    decode.py [--pairs N] [--rounds N] [--model FILE] [--new-tokens N]

Both run the same library with the same threads and spinning, and take turns. Prints one JSON object for
scripts/bench_tables.py; tells its progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from decode_yardstick import Yardstick, build, prompt, wait_for_quiet

from nomoat.base.settings import OPENMP, Settings, child_environment
from nomoat.measure.machine import describe_machine
from nomoat.run.engine import Engine
from nomoat.run.machine_load import OtherLoad
from nomoat.run.sampling import SamplingParams
from nomoat.run.threads import usable_cores
from nomoat.store.embedded import find_embedded, missing_embedded

__all__ = ["main"]

_CONTEXT_TOKENS = 1024
_QUIET_CORES = 0.1  # a round in which other programs used more says little
_LEAST_QUIET_ROUNDS = 3


@dataclass
class _Rounds:
    """Rates of both sides with one thread count, round by round, and what others used meanwhile."""

    threads: int
    theirs: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    other_load_cores: list[float] = field(default_factory=list)
    same_answer: bool = True

    def quiet(self) -> list[tuple[float, float]]:
        """(theirs, ours) of the rounds that nobody disturbed; all of them where too few are left."""
        pairs = list(zip(self.theirs, self.ours, strict=True))
        load = self.other_load_cores
        kept = [pair for pair, cores in zip(pairs, load, strict=True) if cores <= _QUIET_CORES]
        return kept if len(kept) >= _LEAST_QUIET_ROUNDS else pairs

    def row(self) -> list[Any]:
        """Medians of both sides, and the median over the rounds of ours divided by theirs, with interval."""
        pairs = self.quiet()
        theirs, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = [b / a for a, b in pairs]
        low, high = _interval(ratios)
        return [self.threads, theirs, ours, f"{statistics.median(ratios):.3f} ({low:.2f} to {high:.2f})"]


def _interval(ratios: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[-51]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8, help="times that both sides are started anew")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each side within a pair")
    parser.add_argument("--new-tokens", type=int, default=128, help="tokens of each answer")
    parser.add_argument("--model", type=Path, help="GGUF file (default: the embedded one as shipped)")
    options = parser.parse_args()
    model = options.model or find_embedded(Settings.from_environment())
    if model is None:
        raise missing_embedded()
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        counts = sorted({1, usable_cores()})
        rounds = [_measure(program, model, threads, options) for threads in counts]
    print(json.dumps(_report(model, rounds, options.new_tokens), ensure_ascii=False))


def _measure(program: Path, model: Path, threads: int, options: argparse.Namespace) -> _Rounds:
    result = _Rounds(threads)
    for _ in range(options.pairs):
        _measure_pair(program, model, result, options)
    return result


def _measure_pair(program: Path, model: Path, result: _Rounds, options: argparse.Namespace) -> None:
    """Rounds of two fresh processes: where the kernel puts their pages makes some percent of difference."""
    threads, new_tokens = result.threads, options.new_tokens
    with ExitStack() as stack:
        environment = child_environment(unless_set=OPENMP)
        theirs = Yardstick(program, model, threads, new_tokens, _CONTEXT_TOKENS, environment)
        stack.enter_context(closing(theirs))
        engine = stack.enter_context(Engine(model, context_length=_CONTEXT_TOKENS, threads=threads))
        theirs.trial(), _answer(engine, new_tokens)  # the first of each reads the model from the disk
        for number in range(options.rounds):
            wait_for_quiet(_QUIET_CORES)
            load = OtherLoad()
            if number % 2:  # who goes first takes turns, too
                rate, token = _answer(engine, new_tokens)
                trial = theirs.trial()
            else:
                trial = theirs.trial()
                rate, token = _answer(engine, new_tokens)
            result.theirs.append(trial.tokens_per_second)
            result.ours.append(rate)
            result.other_load_cores.append(round(load.cores(), 2))
            result.same_answer &= token == trial.last_token
            sys.stderr.write(
                f"{threads} threads: llama.cpp {trial.tokens_per_second:.1f}, nomoat {rate:.1f} tok/s,"
                f" others {result.other_load_cores[-1]} cores\n"
            )


def _answer(engine: Engine, new_tokens: int) -> tuple[float, int]:
    """Tokens per second from the arrival of the first token to the end, and the last token."""
    options = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_end=True)
    tokens: list[int] = []
    first = 0.0
    for chunk in engine.generate(prompt(), options, reuse=False, speculate=False):
        first = first or time.perf_counter()
        tokens += chunk.token_ids
    return (new_tokens - 1) / (time.perf_counter() - first), tokens[-1]


def _report(model: Path, rounds: list[_Rounds], new_tokens: int) -> dict[str, Any]:
    kept = [len(one.quiet()) for one in rounds]
    busiest = max(max(one.other_load_cores) for one in rounds)
    same = all(one.same_answer for one in rounds)
    return {
        "title": f"Decoding {model.name}",
        "machine": describe_machine(),
        "columns": ["threads", "llama.cpp's own loop, tok/s", "nomoat, tok/s", "ratio"],
        "rows": [one.row() for one in rounds],
        "notes": [
            f"Greedy, {new_tokens} tokens, nothing guessed ahead, medians of rounds in which both take turns"
            f" ({min(kept)} of {len(rounds[0].ours)} used: in the others another program ran, up to"
            f" {busiest:.1f} cores); the ratio is the median of the rounds' ratios, with its 95 % interval."
            " nomoat's tokens are timed where its user gets them, in another process. Both gave"
            f" {'the same answer' if same else 'DIFFERENT ANSWERS'}.",
        ],
        "rounds": [vars(one) for one in rounds],
    }


if __name__ == "__main__":
    main()
