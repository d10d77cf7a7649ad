"""Speed and memory of a model on this machine: warm-up first, then rounds, told as medians with quartiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil

from nomoat.base.progress import Progress
from nomoat.measure.energy import EnergyMeter
from nomoat.measure.subject import Subject
from nomoat.measure.tasks import passages
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams
from nomoat.store.memory import memory_need

__all__ = ["SpeedPlan", "measure_memory", "measure_speed", "spread"]

_ONE_TOKEN = SamplingParams(max_tokens=1, temperature=0.0, ignore_end=True)


@dataclass(frozen=True)
class SpeedPlan:
    """What is timed, and how often. Lengths that do not fit the context are left out."""

    prompt_tokens: tuple[int, ...] = (32, 128, 512, 1024)
    answer_tokens: int = 128
    after_tokens: int = 64
    rounds: int = 5
    loads: int = 3

    @classmethod
    def quick(cls) -> SpeedPlan:
        """A glance."""
        return cls((64, 256), 48, 64, 3, 1)


def measure_speed(subject: Subject, plan: SpeedPlan, progress: Progress) -> dict[str, Any]:
    """The report's `speed`: loading, reading prompts of several lengths, writing an answer, energy.

    Nothing is reused between rounds. The worker is started anew `plan.loads` times; the file is in the system's
    memory by then, so that a first start after booting takes longer.
    """
    engine = subject.engine
    room = subject.context_length - 1
    lengths = [length for length in plan.prompt_tokens if length <= room]
    progress.start("speed", plan.loads + (plan.rounds + 1) * (len(lengths) + 1), "rounds")
    loads = [_load(engine, progress) for _ in range(plan.loads)]
    text = [token for passage in passages() for token in subject.encode(passage)]
    prompts = [_prompt(subject, plan, text, length, progress) for length in lengths]
    answer, energy = _answer(subject, plan, text, progress)
    progress.finish()
    return {
        "load_seconds": spread(loads), "prompt": prompts, "decode": answer, "energy": energy,
        "threads": engine.model.threads,
    }  # fmt: skip


def measure_memory(subject: Subject, adapter_bytes: int) -> dict[str, Any]:
    """The report's `memory`: most memory of the worker so far, the KV cache's growth, and files on disk."""
    engine = subject.engine
    return {
        "peak_rss_bytes": _peak_rss(engine.worker_pid),
        "kv_bytes_per_1000_tokens": memory_need(engine.gguf, 1000).kv_bytes,
        "context_length": subject.context_length,
        "file_bytes": engine.gguf.size_bytes,
        "adapter_bytes": adapter_bytes,
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """`median`, `quartiles` (null for fewer than 3 rounds) and `rounds`."""
    quartiles = None
    if len(values) > 2:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        quartiles = [low, high]
    return {"median": statistics.median(values), "quartiles": quartiles, "rounds": len(values)}


def _load(engine: Engine, progress: Progress) -> float:
    engine.close()
    start = time.perf_counter()
    engine.load()
    progress.advance(1)
    return time.perf_counter() - start


def _prompt(
    subject: Subject, plan: SpeedPlan, text: list[int], length: int, progress: Progress
) -> dict[str, Any]:
    speeds, waits = [], []
    for number in range(plan.rounds + 1):
        tokens = _part(text, 37 * number + length, length)
        start = time.perf_counter()
        with subject.engine.generate(tokens, _ONE_TOKEN, subject.adapters, reuse=False) as answer:
            next(answer)
            wait = time.perf_counter() - start
            answer.text()
        progress.advance(1)
        if number and answer.result is not None:  # the first warms up
            speeds.append(answer.result.prompt_tokens_per_second)
            waits.append(wait)
    return {"tokens": length, "tokens_per_second": spread(speeds), "ttft_seconds": spread(waits)}


def _answer(
    subject: Subject, plan: SpeedPlan, text: list[int], progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    speeds, joules, meter = [], [], EnergyMeter()
    room = subject.context_length // 2
    n_after, n_answer = min(plan.after_tokens, room), min(plan.answer_tokens, room)
    for number in range(plan.rounds + 1):
        # Sampled as in a conversation: the likeliest tokens alone end in repetitions, which are no usual text.
        sampling = SamplingParams(max_tokens=n_answer, seed=number, ignore_end=True)
        meter.start()
        prompt = _part(text, 41 * number, n_after)
        # Guessing ahead is off: what it gains depends on the text, and this is about the model.
        with subject.engine.generate(
            prompt, sampling, subject.adapters, reuse=False, speculate=False
        ) as answer:
            answer.text()
        progress.advance(1)
        used, result = meter.joules(), answer.result
        if number and result is not None:
            speeds.append(result.tokens_per_second)
            if used is not None:
                joules.append(used / result.completion_tokens)
    content = {"tokens": n_answer, "after_tokens": n_after, "tokens_per_second": spread(speeds)}
    return content, {"joules_per_token": spread(joules) if joules else None, "note": meter.problem}


def _part(tokens: Sequence[int], start: int, length: int) -> list[int]:
    """`length` tokens from place `start` on, round and round."""
    return list(islice(cycle(tokens), start, start + length))


def _peak_rss(pid: int | None) -> int | None:
    """Most resident memory of a process so far; where the system keeps no record, what it uses now."""
    if pid is None:
        return None
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return int(psutil.Process(pid).memory_info().rss)
