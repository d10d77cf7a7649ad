"""What the speed measurements come to: ratios, shares, and the rows and notes of the table."""

from __future__ import annotations

import shlex
import statistics
import sys
from typing import Any

import torch
from machine import describe_machine

from .process import thread_settings, versions
from .workloads import WORKLOADS

__all__ = ["result"]


def result(works: list[dict[str, Any]], restricted: bool, quick: bool) -> dict[str, Any]:
    """What scripts/bench_tables.py turns into a table, with every raw figure beside it."""
    machine = describe_machine() + (", AVX512 machine restricted to AVX2" if restricted else "")
    title = "Training SmolLM2-135M, LoRA r=16 on all linears" + (", held to AVX2" if restricted else "")
    title += ": tiny sizes, the figures mean nothing" if quick else ""
    return {
        "title": title, "machine": f"{machine}, {torch.get_num_threads()} threads",
        "columns": ["text", "trainer", "tok/s", "nomoat is faster by", "share of GEMM rate", "peak memory, GB"],
        "rows": [row for work in works for row in _rows(work)],
        "notes": _notes(works, restricted), "command": shlex.join(sys.argv), "environment": thread_settings(),
        "versions": versions(["nomoat", "torch", "transformers", "peft", "llama-cpp-python"]), "works": works,
    }  # fmt: skip


def _rows(work: dict[str, Any]) -> list[list[Any]]:
    ours = work["sides"]["nomoat"]
    return [
        [
            work["workload"],
            side["label"] if side is not ours else f"{side['label']}, {side['precision']}",
            float(statistics.median(side["tokens_per_second"])),
            "" if side is ours else f"{_ratio(ours, side):.2f}x",
            f"{_gemm_share(work, side):.0%}" if work["workload"] == "full" else "",
            side["peak_memory_bytes"] / 1e9,
        ]
        for side in work["sides"].values()
    ]


def _ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Median over rounds, each round's rates divided by each other; a variant given up early has only one rate."""
    a, b = ours["tokens_per_second"], theirs["tokens_per_second"]
    if len(a) != len(b):
        return statistics.median(a) / statistics.median(b)
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def _gemm_share(work: dict[str, Any], side: dict[str, Any]) -> float:
    rate = statistics.median(side["tokens_per_second"])
    return float(rate * work["flops_per_token"] / work["gemm_flops"][side["precision"]])


def _notes(works: list[dict[str, Any]], restricted: bool) -> list[str]:
    gemm = {name: max(work["gemm_flops"][name] for work in works) / 1e9 for name in ("bf16", "fp32")}
    notes = [
        "Whole optimiser steps, real tokens only, medians of rounds in which all take turns in one process; "
        "a variant that is less than half as fast as its kind's fastest was only warmed up.",
        f"GEMM rate at d=576: {gemm['bf16']:,.0f} GFLOP/s bf16, {gemm['fp32']:,.0f} GFLOP/s fp32; its share "
        f"counts {works[0]['flops_per_token'] / 1e9:.2f} GFLOP for each token.",
        *(
            f"`{work['workload']}`: {WORKLOADS[work['workload']]}; {work['documents']} documents, "
            f"{work['tokens']:,} tokens, {work['padding_share']:.0%} of the padded batches is padding."
            for work in works
        ),
    ]
    if restricted:
        notes.append("An AVX512 machine restricted to AVX2; a real AVX2 machine has its own figures.")
    return notes
