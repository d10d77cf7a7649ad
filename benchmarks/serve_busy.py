"""Answers while two other programs spin on the same cores: nomoat, with fixed threads too, and llama-server.

    serve_busy.py [--rounds N] [--new-tokens N] [--programs N] [--model FILE] [--quick]

All take turns, first on the machine as it is, then beside the other programs. Prints one JSON object for
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

from decode_yardstick import other_programs
from llama_server import build_llama_server
from ratios import median_ratio, ratio_words
from serve_load import Clients, chat
from serve_options import Options
from serve_prompts import PLAIN
from servers import Server, embedded_model, llama_server, nomoat_server

from nomoat.measure.machine import describe_machine, load_words
from nomoat.run.machine_load import OtherLoad
from nomoat.run.threads import usable_cores

__all__ = ["main"]

_OURS, _THEIRS = "nomoat, its own choice", "llama-server"
Rates = dict[str, list[float]]


def main() -> None:
    """Measure and print."""
    parser = Options(__doc__, new_tokens=4)
    parser.number("--rounds", 5, "turns of each server")
    parser.number("--new-tokens", 96, "longest answer")
    parser.number("--programs", 2, "how many other programs spin")
    options = parser.read()
    model = options.model or embedded_model()
    with ExitStack() as stack:
        clients = stack.enter_context(Clients(options.patience))
        servers = _servers(stack, model)
        for server in servers:
            clients.one(server, chat("Good morning! What is your name?", 32))
        load = OtherLoad()
        alone = _measure(servers, clients, options, "alone")
        note = load_words(load).replace("meanwhile", "while it was left alone")
        with other_programs(options.programs):
            busy = _measure(servers, clients, options, "busy")
    report = _report(model, alone, busy, options.programs)
    report["notes"].append(note)
    print(json.dumps(report, ensure_ascii=False))


def _servers(stack: ExitStack, model: Path) -> list[Server]:
    """nomoat with its own choice and with each fixed number of threads, llama-server with its default."""
    counts: list[int | None] = [None, *range(1, usable_cores() + 1)]
    found = []
    for count in counts:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        name = _OURS if count is None else f"nomoat, {count} thread{'s' if count > 1 else ''}"
        found.append(stack.enter_context(nomoat_server(model, home, threads=count, name=name)))
    found.append(stack.enter_context(llama_server(build_llama_server(), model, name=_THEIRS)))
    return found


def _measure(servers: list[Server], clients: Clients, options: argparse.Namespace, when: str) -> Rates:
    found: Rates = defaultdict(list)
    for number in range(options.rounds):
        draw = random.Random(f"{when} {number}")
        body = chat(PLAIN["story"](draw), options.new_tokens)
        for server in random.sample(servers, len(servers)):
            found[server.name].append(clients.one(server, body).tokens_per_second)
        rates = ", ".join(f"{name}: {values[-1]:.0f}" for name, values in found.items())
        sys.stderr.write(f"{when}, round {number + 1}: {rates} tok/s\n")
    return {server.name: found[server.name] for server in servers}


def _report(model: Path, alone: Rates, busy: Rates, programs: int) -> dict[str, Any]:
    fixed = [name for name in busy if name not in (_OURS, _THEIRS)]
    best = [max(fixed, key=lambda name: statistics.median(rates[name])) for rates in (alone, busy)]
    return {
        "title": f"Beside {programs} spinning programs, {model.name}",
        "machine": describe_machine(),
        "detail": True,
        "columns": ["server", "alone, tok/s", f"beside {programs} programs, tok/s", "nomoat's own choice / it, alone",
                    "the same, busy"],
        "rows": [
            [name, statistics.median(alone[name]), statistics.median(busy[name]),
             *(["", ""] if name == _OURS else [ratio_words(rates[_OURS], rates[name]) for rates in (alone, busy)])]
            for name in busy
        ],
        "notes": [
            "Greedy stories, one client, llama-server with its default number of threads; medians of"
            f" {len(busy[_OURS])} rounds, ratios with 95 % intervals. Against the best fixed number of threads"
            f" ({best[0]} alone, {best[1]} busy), nomoat's own choice is"
            f" {median_ratio(alone[_OURS], alone[best[0]]):.2f} alone and"
            f" {median_ratio(busy[_OURS], busy[best[1]]):.2f} busy.",
        ],
        "alone": alone,
        "busy": busy,
    }  # fmt: skip


if __name__ == "__main__":
    main()
