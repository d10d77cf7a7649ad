"""Eight adapters in use at once by eight clients, beside one client with one adapter.

    serve_adapters.py [--rounds N] [--new-tokens N] [--adapters N] [--model FILE] [--quick]

nomoat and llama-server take turns. The adapters are random, of rank 16 on all linears. Prints one JSON object for
scripts/bench_tables.py; tells its progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from llama_server import build_llama_server
from ratios import ratio_words
from serve_load import Clients, chat, throughput, worst_ttft_seconds
from serve_options import Options
from serve_prompts import PLAIN
from servers import Server, embedded_model, llama_server, nomoat_server

from nomoat.formats.adapter import LoraAdapter, head_counts
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_lora import write_gguf_lora
from nomoat.measure.machine import describe_machine, load_words
from nomoat.run.machine_load import OtherLoad
from nomoat.run.threads import usable_cores

__all__ = ["main", "write_random_adapter"]

_RANK = 16
_LINEARS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
_OURS = "nomoat"
Found = dict[str, dict[str, list[tuple[float, float]]]]
"""Side -> `one` or `all` -> (tokens per second, longest wait in seconds), round by round."""


def main() -> None:
    """Measure and print."""
    parser = Options(__doc__, new_tokens=4)
    parser.number("--rounds", 5, "turns of each server")
    parser.number("--new-tokens", 64, "longest answer")
    parser.number("--adapters", 8, "adapters, and clients at once")
    options = parser.read()
    model, threads, count = options.model or embedded_model(), usable_cores(), options.adapters
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = [write_random_adapter(model, folder / f"a{seed}.gguf", seed) for seed in range(count)]
        clients = stack.enter_context(Clients(options.patience))
        named = [word for file in files for word in ("--adapter", f"{file.stem}={file}")]
        theirs = [
            "--lora",
            ",".join(map(str, files)),
            "--lora-init-without-apply",
            "--parallel",
            str(count),
            "--kv-unified",
        ]
        servers = [
            stack.enter_context(nomoat_server(model, folder, *named, threads=threads, name=_OURS)),
            stack.enter_context(llama_server(build_llama_server(), model, *theirs, threads=threads)),
        ]
        load = OtherLoad()
        found = _measure(servers, clients, options)
        note = load_words(load)
    report = _report(model, threads, found, count)
    report["notes"].append(note)
    print(json.dumps(report, ensure_ascii=False))


def write_random_adapter(model: Path, path: Path, seed: int) -> Path:
    """A LoRA for `model` with small random values: all that counts here is its work."""
    base = read_gguf(model)
    draw = np.random.default_rng(seed)
    modules = {}
    for name, tensor in base.tensors.items():
        if name.split(".")[-2] in _LINEARS:
            columns, rows = tensor.shape
            down, up = draw.standard_normal((_RANK, columns)), draw.standard_normal((rows, _RANK))
            modules[name] = (down.astype(np.float32) * 0.02, up.astype(np.float32) * 0.02)
    write_gguf_lora(LoraAdapter("", base.architecture, _RANK, _RANK, modules, *head_counts(base)), path)
    return path


def _measure(servers: list[Server], clients: Clients, options: argparse.Namespace) -> Found:
    found: Found = {server.name: defaultdict(list) for server in servers}
    for server in servers:
        clients.run(server, *([_body(server, index, -1, 4)] for index in range(options.adapters)))
    for number in range(options.rounds):
        for server in random.sample(servers, len(servers)):
            everyone = [
                [_body(server, index, number, options.new_tokens)] for index in range(options.adapters)
            ]
            alone = [
                _body(server, number % options.adapters, 100 + number + turn, options.new_tokens)
                for turn in (0, 50)
            ]
            for label, bodies in (("one", [alone]), ("all", everyone)):
                answers = clients.run(server, *bodies)
                found[server.name][label].append((throughput(answers), worst_ttft_seconds(answers)))
            one, everybody = (found[server.name][label][-1][0] for label in ("one", "all"))
            sys.stderr.write(f"round {number + 1}, {server.name}: one {one:.0f}, all {everybody:.0f} tok/s\n")
    return found


def _body(server: Server, index: int, number: int, new_tokens: int) -> dict[str, Any]:
    """A request with adapter `index`, in each server's own way of naming it, and a prompt that is new."""
    text = PLAIN["story"](random.Random(f"{number} {index}"))
    if server.name == _OURS:
        return chat(text, new_tokens, model=f"{server.model}+a{index}")
    return chat(text, new_tokens, lora=[{"id": index, "scale": 1.0}])


def _report(model: Path, threads: int, found: Found, count: int) -> dict[str, Any]:
    rows: list[list[Any]] = []
    for side, measured in found.items():
        one, everyone = ([rate for rate, _ in measured[label]] for label in ("one", "all"))
        waits = [wait for _, wait in measured["all"]]
        rows.append([
            side, statistics.median(one), statistics.median(everyone), ratio_words(everyone, one),
            statistics.median(waits),
        ])  # fmt: skip
    return {
        "title": f"{count} adapters at once, {model.name}",
        "machine": describe_machine(),
        "detail": True,
        "columns": ["server", "one client, one adapter, tok/s", f"{count} clients, {count} adapters, tok/s together",
                    "ratio", "longest wait, s"],
        "rows": rows,
        "notes": [
            f"Greedy stories, {threads} threads, adapters of rank {_RANK} on all linears; medians of"
            f" {len(found[_OURS]['one'])} rounds, ratios with 95 % intervals; no restart. llama-server has {count}"
            " slots.",
        ],
        "measured": found,
    }  # fmt: skip


if __name__ == "__main__":
    main()
