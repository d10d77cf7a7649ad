"""One, four and sixteen clients at once: tokens per second of all together, and the longest wait of any.

    serve_clients.py [--rounds N] [--new-tokens N] [--model FILE] [--quick]

nomoat, llama-server with its default flags, and llama-server with as many slots as there are clients take turns.
Prints one JSON object for scripts/bench_tables.py; tells its progress on standard error.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from llama_server import build_llama_server
from ratios import ratio_words
from serve_load import Clients, chat, throughput, worst_ttft_seconds
from serve_options import Options
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
    parser = Options(__doc__, new_tokens=4, starts=1)
    parser.number("--rounds", 3, "turns of each server at each start")
    parser.number("--starts", 4, "times that the servers are started anew")
    parser.number("--new-tokens", 64, "longest answer")
    options = parser.read()
    model, threads, program = options.model or embedded_model(), usable_cores(), build_llama_server()
    found: Found = {count: {} for count in _REQUESTS}
    with Clients(options.patience) as clients:
        load = OtherLoad()
        # Where the kernel puts the pages of a process makes some percent of difference as long as it lives.
        for start in range(options.starts):
            with ExitStack() as stack:
                servers = _servers(stack, program, model, threads)
                numbers = range(start * options.rounds, (start + 1) * options.rounds)
                _measure(servers, clients, numbers, options.new_tokens, found)
        note = load_words(load)
    report = _report(model, threads, found, list(found[1]))
    report["notes"].append(note)
    print(json.dumps(report, ensure_ascii=False))


def _servers(stack: ExitStack, program: Path, model: Path, threads: int) -> list[Server]:
    home, most = Path(stack.enter_context(tempfile.TemporaryDirectory())), max(_REQUESTS)
    slots = ["--parallel", str(most), "--kv-unified"]
    sides = [
        nomoat_server(model, home, threads=threads, name=_OURS),
        llama_server(program, model, threads=threads),
        llama_server(program, model, *slots, threads=threads, name=f"llama-server, {most} slots"),
    ]
    return [stack.enter_context(side) for side in sides]


def _measure(servers: list[Server], clients: Clients, numbers: range, new_tokens: int, found: Found) -> None:
    for server in servers:
        clients.one(server, chat("Good morning!", 16))
        for measured in found.values():
            measured.setdefault(server.name, [])  # in this order, whoever answers first
    for number in numbers:
        for count, requests in _REQUESTS.items():
            bodies = _bodies(1000 * number + 100 * count, count, requests, new_tokens)
            for server in random.sample(servers, len(servers)):
                answers = clients.run(server, *bodies)
                found[count][server.name].append((throughput(answers), worst_ttft_seconds(answers)))
            last = ", ".join(
                f"{name}: {a[-1][0]:.0f} tok/s {a[-1][1]:.2f} s" for name, a in found[count].items()
            )
            sys.stderr.write(f"round {number + 1}, {count} clients: {last}\n")


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
            " from the first request to the last end; all started anew several times. The wait is for the first piece.",
        ],
        "measured": found,
    }  # fmt: skip


if __name__ == "__main__":
    main()
