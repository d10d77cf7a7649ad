"""What the speed measurements come to: ratios, shares, and the rows and notes of the table."""

from __future__ import annotations

import shlex
import statistics
import sys
from typing import Any

import torch

from nomoat.measure.machine import describe_machine

from .process import thread_settings, versions
from .sides import PEFT_VARIANTS
from .workloads import WORKLOADS

__all__ = ["result"]


def result(
    works: list[dict[str, Any]], hopeless: dict[str, float], restricted: bool, quick: bool
) -> dict[str, Any]:
    """What scripts/bench_tables.py turns into a table, with every raw figure beside it.

    `hopeless` holds the rates of those variants of PEFT that were given up after a few tokens.
    """
    machine = describe_machine() + (", AVX512 machine restricted to AVX2" if restricted else "")
    title = "Training SmolLM2-135M, LoRA r=16 on all linears" + (", held to AVX2" if restricted else "")
    title += ": tiny sizes, the figures mean nothing" if quick else ""
    return {
        "title": title, "machine": f"{machine}, {torch.get_num_threads()} threads",
        "columns": ["text", "trainer", "tok/s", "nomoat is faster by", "share of GEMM rate", "peak memory, GB"],
        "rows": [row for work in works for row in _rows(work)],
        "notes": _notes(works, hopeless, restricted), "command": shlex.join(sys.argv), "environment": thread_settings(),
        "versions": versions(["nomoat", "torch", "transformers", "peft", "llama-cpp-python"]), "works": works,
        "given_up_tokens_per_second": hopeless,
    }  # fmt: skip


def _sharing(work: dict[str, Any]) -> str:
    """How nomoat's rate comes about where it computes fewer rows than there are tokens."""
    share = work["shared_share"]
    return (
        f"; {share:.0%} of the tokens repeat a batch's beginning, which nomoat computes once"
        if share > 0.005
        else ""
    )


def _rows(work: dict[str, Any]) -> list[list[Any]]:
    ours = work["sides"]["nomoat"]
    return [
        [
            work["workload"],
            side["label"] if side is not ours else f"{side['label']}, {side['precision']}",
            _median(side),
            "" if side is ours else f"{_ratio(ours, side):.2f}x",
            f"{_gemm_share(work, side):.0%}" if work["workload"] == "full" else "",
            side["peak_memory_bytes"] / 1e9,
        ]
        for side in work["sides"].values()
    ]


def _ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Median over rounds of each round's ratio: what slows the machine for a while slows both sides."""
    pairs = zip(ours["tokens_per_second"], theirs["tokens_per_second"], strict=True)
    return statistics.median(a / b for a, b in pairs)


def _gemm_share(work: dict[str, Any], side: dict[str, Any]) -> float:
    return float(_median(side) * work["flops_per_token"] / work["gemm_flops"][side["precision"]])


def _median(side: dict[str, Any]) -> float:
    return float(statistics.median(side["tokens_per_second"]))


def _notes(works: list[dict[str, Any]], hopeless: dict[str, float], restricted: bool) -> list[str]:
    gemm = {name: max(work["gemm_flops"][name] for work in works) / 1e9 for name in ("bf16", "fp32")}
    notes = [
        "Whole optimiser steps, real tokens only, medians of rounds in which all take turns in one process.",
        *(
            f"{PEFT_VARIANTS[name]}: {rate:.1f} tok/s on a few tokens, hence not run further."
            for name, rate in hopeless.items()
        ),
        f"GEMM rate at d=576: {gemm['bf16']:,.0f} GFLOP/s bf16, {gemm['fp32']:,.0f} GFLOP/s fp32; its share "
        f"counts {works[0]['flops_per_token'] / 1e9:.2f} GFLOP for each token.",
        *(
            f"`{work['workload']}`: {WORKLOADS[work['workload']]}; {work['documents']} documents, "
            f"{work['tokens']:,} tokens, {work['padding_share']:.0%} of the padded batches is padding"
            f"{_sharing(work)}."
            for work in works
        ),
    ]
    if restricted:
        notes.append("An AVX512 machine restricted to AVX2; a real AVX2 machine has its own figures.")
    return notes
