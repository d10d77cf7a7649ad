"""Peak memory of training a 1.5B Q4_K_M model at 2,048 tokens a step, against what the planner predicted.

    train_memory.py [--steps N] [--threads N] [--precision bf16|fp32] [--layers N]

The model has Qwen2.5-1.5B's shape and random weights; it is made once and kept in the user's cache (1 GB).
Prints one JSON object for scripts/bench_tables.py; tells its progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.process import in_child, peak_memory_bytes, versions

from nomoat.base.settings import calm_openmp

__all__ = ["main"]

_STEP_TOKENS, _DOCUMENT_TOKENS = 2048, 1024
_TARGET_BYTES = 6e9


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure in a child process and print; the child prints its figures."""
    options = _options(arguments)
    if options.child:
        sys.stdout.write(json.dumps(_train(options)) + "\n")
        return
    model = _model(options.layers)
    given = sys.argv[1:] if arguments is None else list(arguments)
    figures = in_child(Path(__file__), [*given, "--child", str(model)])
    sys.stdout.write(json.dumps(_result(figures, model, options)) + "\n")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's)")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    parser.add_argument(
        "--memory-gb", type=float, help="most memory for the planner (default: its own choice)"
    )
    parser.add_argument("--layers", type=int, help="fewer layers than the real model, to see that it runs")
    parser.add_argument("--child", metavar="MODEL", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _model(layers: int | None) -> Path:
    """The random model's file, written at first use."""
    from training.random_model import QWEN_1_5B, write_random_model

    shape = replace(QWEN_1_5B, num_hidden_layers=layers or QWEN_1_5B.num_hidden_layers)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "nomoat" / "benchmarks" / f"random-qwen2-{shape.num_hidden_layers}-layers-q4_k_m.gguf"
    if not path.is_file():
        sys.stderr.write(f"-- writing {path}\n")
        write_random_model(path, shape)
    return path


def _train(options: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: whole optimiser steps with the plan that `nomoat tune` would make."""
    calm_openmp()
    import torch
    from training.gemm import gemm_flops, model_flops_per_token
    from training.nomoat_side import NomoatSide
    from training.random_model import QWEN_1_5B

    if options.threads:
        torch.set_num_threads(options.threads)
    limit = int(options.memory_gb * 1e9) if options.memory_gb else None
    with tempfile.TemporaryDirectory() as folder:
        side = NomoatSide(options.child, Path(folder), _STEP_TOKENS, _DOCUMENT_TOKENS, precision=options.precision,
                          memory_bytes=limit)  # fmt: skip
        sys.stderr.write(f"-- {side.plan}\n")
        seconds = [side.train([_documents(step)]).seconds for step in range(options.steps)]
        peak = peak_memory_bytes()  # before the GEMM rate is measured, which needs memory too
        loss = side.loss(_documents(0))
    rate = gemm_flops(side.plan.dtype, QWEN_1_5B.hidden_size, QWEN_1_5B.intermediate_size)
    flops = model_flops_per_token(options.child) * _STEP_TOKENS
    return {
        "peak_memory_bytes": peak, "plan": side.plan.as_json(), "step_seconds": seconds, "gemm_flops": rate,
        "gemm_limit_seconds": flops / rate, "loss_after": loss, "threads": torch.get_num_threads(),
    }  # fmt: skip


def _documents(seed: int) -> list[Any]:
    """Random tokens, every one supervised: the vocabulary's matrix has most to do."""
    import numpy as np
    from training.random_model import QWEN_1_5B

    from nomoat.tune.tokenise import Example

    rng = np.random.default_rng(seed)
    supervised = np.arange(_DOCUMENT_TOKENS) > 0
    shape = (_STEP_TOKENS // _DOCUMENT_TOKENS, _DOCUMENT_TOKENS)
    tokens = rng.integers(0, QWEN_1_5B.vocab_size, shape).astype(np.int32)
    return [Example(row, supervised, f"random {seed}", 0) for row in tokens]


def _result(figures: dict[str, Any], model: Path, options: argparse.Namespace) -> dict[str, Any]:
    from nomoat.measure.machine import describe_machine

    memory = figures["plan"]["memory"]
    peak, predicted = figures["peak_memory_bytes"], memory["peak_bytes"]
    plan = f"{figures['plan']['precision']}, {memory['micro_tokens']:,} tokens at a time, "
    plan += "layers computed again" if memory["recompute"] else "activations kept"
    share = figures["gemm_limit_seconds"] / min(figures["step_seconds"])
    layers = f", only {options.layers} layers" if options.layers else ""
    return {
        "title": f"Memory of training a 1.5B Q4_K_M model at {_STEP_TOKENS:,} tokens a step, LoRA r=16{layers}",
        "machine": f"{describe_machine()}, {figures['threads']} threads",
        "columns": ["plan", "peak, GB", "planned, GB", "file, GB", "share of GEMM rate"],
        "rows": [[plan, peak / 1e9, predicted / 1e9, model.stat().st_size / 1e9, f"{share:.0%}"]],
        "notes": [
            "Random weights of Qwen2.5-1.5B's shape; resident memory of the whole process, the mapped file's "
            f"pages included. The aim is below {_TARGET_BYTES / 1e9:.0f} GB.",
        ],
        "command": shlex.join(sys.argv), "versions": versions(["nomoat", "torch", "llama-cpp-python"]),
        "within_target": peak < _TARGET_BYTES, "measured_to_planned": peak / predicted, "figures": figures,
    }  # fmt: skip


if __name__ == "__main__":
    main()
