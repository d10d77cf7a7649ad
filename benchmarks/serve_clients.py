"""One, four and sixteen clients at once: tokens per second of all together, and the longest wait of any.

    serve_clients.py [--rounds N] [--new-tokens N] [--model FILE] [--quick]

nomoat, llama-server with its default flags, and llama-server with as many slots as there are clients take turns.
Prints one JSON object for scripts/bench_tables.py; tells its progress on standard error.
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

from llama_server import build_llama_server
from ratios import ratio_words
from serve_load import Clients, chat, throughput, worst_ttft_seconds
from serve_prompts import document, question
from servers import Server, embedded_model, llama_server, nomoat_server

from nomoat.measure.machine import describe_machine, load_words
from nomoat.run.machine_load import OtherLoad
from nomoat.run.threads import usable_cores

__all__ = ["main"]

_REQUESTS = {1: 3, 4: 2, 16: 1}  # clients -> requests of each, one after the other
_PROMPT_WORDS = 90
_OURS = "nomoat"
Found = dict[int, dict[str, list[tuple[float, float]]]]
"""Clients -> side -> (tokens per second, longest wait in seconds), round by round."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4, help="turns of each server")
    parser.add_argument("--new-tokens", type=int, default=64, help="longest answer")
    parser.add_argument("--model", type=Path, help="GGUF file (default: the embedded one as shipped)")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to wait for a quiet machine")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.patience = 0.0
        options.rounds, options.new_tokens = 1, 4
    model, threads, program = options.model or embedded_model(), usable_cores(), build_llama_server()
    most = max(_REQUESTS)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clients = stack.enter_context(Clients(options.patience))
        slots = ["--parallel", str(most), "--kv-unified"]
        servers = [
            stack.enter_context(nomoat_server(model, home, threads=threads, name=_OURS)),
            stack.enter_context(llama_server(program, model, threads=threads)),
            stack.enter_context(llama_server(program, model, *slots, threads=threads,
                                             name=f"llama-server, {most} slots")),
        ]  # fmt: skip
        load = OtherLoad()
        found = _measure(servers, clients, options.rounds, options.new_tokens)
        note = load_words(load)
    report = _report(model, threads, found, [server.name for server in servers])
    report["notes"].append(note)
    print(json.dumps(report, ensure_ascii=False))


def _measure(servers: list[Server], clients: Clients, rounds: int, new_tokens: int) -> Found:
    found: Found = {count: defaultdict(list) for count in _REQUESTS}
    for server in servers:
        clients.one(server, chat("Good morning!", 16))
    for number in range(rounds):
        for count, requests in _REQUESTS.items():
            bodies = _bodies(1000 * number + 100 * count, count, requests, new_tokens)
            for server in random.sample(servers, len(servers)):
                answers = clients.run(server, *bodies)
                found[count][server.name].append((throughput(answers), worst_ttft_seconds(answers)))
            last = ", ".join(
                f"{name}: {a[-1][0]:.0f} tok/s {a[-1][1]:.2f} s" for name, a in found[count].items()
            )
            sys.stderr.write(f"round {number + 1}, {count} clients: {last}\n")
    return found


def _bodies(seed: int, clients: int, requests: int, new_tokens: int) -> list[list[dict[str, Any]]]:
    """New prompts of about 150 tokens for each client."""
    draw = random.Random(seed)
    texts = [
        [
            f"{document(seed + client + 40 * turn, _PROMPT_WORDS)}\n\n{question(draw)}"
            for turn in range(requests)
        ]
        for client in range(clients)
    ]
    return [[chat(text, new_tokens) for text in own] for own in texts]


def _report(model: Path, threads: int, found: Found, sides: list[str]) -> dict[str, Any]:
    rows: list[list[Any]] = []
    for count, measured in found.items():
        ours = [list(values) for values in zip(*measured[_OURS], strict=True)]
        for side in sides:
            rates, waits = (list(values) for values in zip(*measured[side], strict=True))
            compared = (
                ["", ""] if side == _OURS else [ratio_words(ours[0], rates), ratio_words(ours[1], waits)]
            )
            rows.append([count, side, statistics.median(rates), statistics.median(waits), *compared])
    return {
        "title": f"Clients at once, {model.name}",
        "machine": describe_machine(),
        "detail": True,
        "columns": ["clients", "server", "tok/s, all together", "longest wait, s", "nomoat's rate / its",
                    "nomoat's wait / its"],
        "rows": rows,
        "notes": [
            f"Greedy, streamed, {threads} threads, new prompts of about 150 tokens; medians of"
            f" {len(found[1][_OURS])} rounds, ratios with 95 % intervals. The rate counts tokens of answers by the time"
            " from the first request to the last piece; the wait is for the first piece.",
        ],
        "measured": found,
    }  # fmt: skip


if __name__ == "__main__":
    main()
