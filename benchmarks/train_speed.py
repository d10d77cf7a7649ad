"""Training tokens per second: nomoat's trainer against transformers + PEFT, interleaved in one process.

    train_speed.py [--only full|chats|tour] [--peft fp32|bf16|bf16-autocast] [--repeats N]
                   [--threads N] [--isa avx2] [--quick] [--faq DIR]

Prints one JSON object for scripts/bench_tables.py; tells its progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.process import embedded_model, forget_peak_memory, in_child, peak_memory_bytes, restrict_to_avx2
from training.sides import PEFT_VARIANTS
from training.workloads import FAQ_FOLDER, WORKLOADS, Workload, make_workload

from nomoat.base.settings import calm_openmp

__all__ = ["main"]

_MAX_LENGTH = 1024
_HOPELESS = 0.5  # a variant of PEFT slower than this share of its fastest is not measured further
_AGREEMENT = 0.01  # both sides' first losses, relative: otherwise they would not do the same work


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; with --peak-memory only one side's memory."""
    options = _options(arguments)
    if options.isa == "avx2":
        restrict_to_avx2()
    calm_openmp()
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.peak_memory:
        sys.stdout.write(json.dumps(_one_step(options)) + "\n")
        return
    from training.speed_report import result

    hopeless = _hopeless(options)
    works = [_measure(name, options, hopeless) for name in options.only or WORKLOADS]
    report = result(works, hopeless, restricted=options.isa == "avx2", quick=options.quick)
    sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(WORKLOADS), help="this text; may be repeated")
    parser.add_argument("--peft", action="append", choices=list(PEFT_VARIANTS),
                        help="this way to run PEFT (default: all); may be repeated")  # fmt: skip
    parser.add_argument("--repeats", type=int, default=5, help="rounds, in which both sides take turns")
    parser.add_argument("--threads", type=int, help="torch's threads, for both sides (default: torch's)")
    parser.add_argument("--isa", choices=["native", "avx2"], default="native",
                        help="avx2: hold an AVX512 machine back to AVX2")  # fmt: skip
    parser.add_argument("--faq", type=Path, default=FAQ_FOLDER, help="folder of Python's FAQ as *.rst.txt")
    parser.add_argument(
        "--model", type=Path, help="SmolLM2-135M-Instruct as GGUF (default: the embedded one)"
    )
    parser.add_argument("--documents", type=int, help="only so many of the chats, evenly chosen")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--peak-memory", metavar="SIDE", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.model = options.model or embedded_model()
    options.peft = options.peft or list(PEFT_VARIANTS)
    options.repeats = 1 if options.quick else options.repeats
    return options


def _workload(name: str, options: argparse.Namespace) -> Workload:
    return make_workload(name, options.model, options.repeats, options.faq, options.quick, options.documents)


def _make_side(name: str, work: Workload, options: argparse.Namespace, folder: Path) -> Any:
    if name == "nomoat":
        from training.nomoat_side import NomoatSide

        march = "x86-64-v3" if options.isa == "avx2" else "native"
        return NomoatSide(options.model, folder, work.batch_tokens, _MAX_LENGTH, march=march)
    from training.peft_side import PeftSide

    return PeftSide(options.model, name)


def _one_step(options: argparse.Namespace) -> dict[str, float]:
    """In a process of its own: one step of one side on the batch that needs most."""
    work = _workload(options.only[0], options)
    with tempfile.TemporaryDirectory() as folder:
        side = _make_side(options.peak_memory, work, options, Path(folder))
        forget_peak_memory()
        side.train([work.largest_batch()])
    return {"peak_memory_bytes": peak_memory_bytes()}


def _hopeless(options: argparse.Namespace) -> dict[str, float]:
    """PEFT's variants that a few tokens show to be far slower than its fastest, with their rates on those.

    Where bf16 is emulated one real round would take an hour.
    """
    work, rates = make_workload("full", options.model, 1, options.faq, quick=True), {}
    for name in options.peft:
        side = _make_side(name, work, options, Path())
        side.train(work.rounds[0])  # warm-up
        rates[name] = side.train(work.rounds[0]).tokens_per_second
        _say(f"-- {name}: {rates[name]:.1f} tok/s on a few tokens")
    return {name: rate for name, rate in rates.items() if rate < _HOPELESS * max(rates.values())}


def _measure(name: str, options: argparse.Namespace, hopeless: dict[str, float]) -> dict[str, Any]:
    """All sides on one kind of text: memory in processes of their own, then speed, taking turns in this one."""
    from training.gemm import model_flops_per_token
    from training.nomoat_side import shared_share

    names = ["nomoat", *(variant for variant in options.peft if variant not in hopeless)]
    work = _workload(name, options)
    _say(f"-- {work.title}: {len(work.documents)} documents, {len(work.rounds)} rounds")
    memory = {side: _peak_memory(side, name, options) for side in names}
    with tempfile.TemporaryDirectory() as folder:
        sides = {side: _make_side(side, work, options, Path(folder)) for side in names}
        losses = _agreeing_losses(sides, work)
        rates, gemm = _take_turns(sides, work)
        plan = sides["nomoat"].plan.as_json()
    return {
        "workload": name, "documents": len(work.documents), "padding_share": work.padding_share,
        "shared_share": shared_share(work),
        "tokens": sum(len(example.tokens) for example in work.documents),
        "supervised_tokens": int(sum(example.supervised.sum() for example in work.documents)),
        "sides": {
            side: {"label": sides[side].label, "precision": sides[side].precision, "first_loss": losses[side],
                   "peak_memory_bytes": memory[side], "tokens_per_second": rates[side]}
            for side in names
        },
        "gemm_flops": gemm, "flops_per_token": model_flops_per_token(options.model), "plan": plan,
    }  # fmt: skip


def _peak_memory(side: str, name: str, options: argparse.Namespace) -> float:
    arguments = ["--peak-memory", side, "--only", name, "--repeats", str(options.repeats), "--isa", options.isa,
                 "--faq", str(options.faq), "--model", str(options.model)]  # fmt: skip
    arguments += ["--threads", str(options.threads)] if options.threads else []
    arguments += ["--documents", str(options.documents)] if options.documents else []
    arguments += ["--quick"] if options.quick else []
    peak = in_child(Path(__file__), arguments)["peak_memory_bytes"]
    _say(f"   {side:14} {peak / 1e9:6.2f} GB at most")
    return peak


def _agreeing_losses(sides: dict[str, Any], work: Workload) -> dict[str, float]:
    """Each side's loss on the first batch before anything is learned."""
    losses = {name: side.loss(work.rounds[0][0]) for name, side in sides.items()}
    if max(losses.values()) > min(losses.values()) * (1 + _AGREEMENT):
        raise SystemExit(f"error: the sides do not train on the same thing, their first losses are {losses}")
    return losses


def _take_turns(sides: dict[str, Any], work: Workload) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Rates of every side and round, and the best GEMM rates seen between rounds."""
    import torch
    from training.gemm import gemm_flops

    for name, side in sides.items():
        _say(f"   warm-up: {name}")
        side.train(work.rounds[0][:1])
    measured: dict[str, list[float]] = {name: [] for name in sides}
    gemm = {"bf16": 0.0, "fp32": 0.0}
    for number, batches in enumerate(work.rounds):
        for name in sides if number % 2 == 0 else reversed(sides):
            measured[name].append(sides[name].train(batches).tokens_per_second)
            _say(f"   round {number + 1}: {name:14} {measured[name][-1]:7.1f} tok/s")
        for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
            gemm[precision] = max(gemm[precision], gemm_flops(dtype))
    return measured, gemm


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
