"""The wait for an answer to a long prompt after the server was started anew: nomoat and llama-server.

    serve_restart.py [--rounds N] [--words N] [--model FILE] [--quick]

Every round has new prompts. Each server evaluates them for the first time, is ended and started again, and gets
one prompt again as it was and of another only the beginning, with a new question. Prints one JSON object for
scripts/bench_tables.py; tells its progress on standard error.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from llama_server import build_llama_server
from ratios import ratio_words
from serve_load import Answer, Clients, chat
from serve_options import Options
from serve_prompts import document, question
from servers import Server, embedded_model, llama_server, nomoat_server

from nomoat.measure.machine import describe_machine, load_words
from nomoat.run.machine_load import OtherLoad
from nomoat.run.threads import usable_cores

__all__ = ["main"]

_FIRST, _SAME, _OTHER = "first time", "again after a restart", "same beginning after a restart"
Start = Callable[[], AbstractContextManager[Server]]
Waits = dict[str, dict[str, list[float]]]
"""Side -> kind of prompt -> milliseconds, round by round."""


def main() -> None:
    """Measure and print."""
    parser = Options(__doc__, words=120)
    parser.number("--rounds", 5, "times that each server is started anew")
    parser.number("--words", 950, "words of the prompt; 950 are about 1,500 tokens")
    options = parser.read()
    model, threads = options.model or embedded_model(), usable_cores()
    with tempfile.TemporaryDirectory() as home, Clients(options.patience) as clients:
        sides: dict[str, Start] = {
            "nomoat": partial(nomoat_server, model, Path(home), threads=threads),
            "llama-server": partial(llama_server, build_llama_server(), model, threads=threads),
        }
        load = OtherLoad()
        measured = _measure(sides, clients, options.rounds, options.words)
        note = load_words(load)
    report = _report(model, threads, *measured)
    report["notes"].append(note)
    print(json.dumps(report, ensure_ascii=False))


def _measure(sides: dict[str, Start], clients: Clients, rounds: int, words: int) -> tuple[Waits, Waits, int]:
    """Waits for the first piece as the client sees them, evaluation as the servers tell it, tokens of a prompt."""
    ttft: Waits = {side: defaultdict(list) for side in sides}
    prefill: Waits = {side: defaultdict(list) for side in sides}
    tokens = 0
    for number in range(rounds):
        for side in list(sides)[:: 1 if number % 2 else -1]:
            for kind, answer in _round(sides[side], clients, number, words):
                ttft[side][kind].append(answer.ttft_seconds * 1e3)
                prefill[side][kind].append(answer.timings["prompt_ms"])
                tokens = max(tokens, answer.prompt_tokens)
            waits = ", ".join(f"{kind} {values[-1]:.0f} ms" for kind, values in ttft[side].items())
            sys.stderr.write(f"round {number + 1}, {side}: {waits}\n")
    return ttft, prefill, tokens


def _round(start: Start, clients: Clients, number: int, words: int) -> list[tuple[str, Answer]]:
    draw = random.Random(number)
    one, other = document(2 * number, words), document(2 * number + 1, words)
    same = chat(f"{one}\n\n{question(draw)}", 8)
    before, after = (chat(f"{other}\n\n{question(draw)}", 8) for _ in range(2))
    found = []
    with start() as server:
        _wake(server, clients)
        found += [(_FIRST, clients.one(server, same)), (_FIRST, clients.one(server, before))]
    with start() as server:
        _wake(server, clients)
        found += [(_SAME, clients.one(server, same)), (_OTHER, clients.one(server, after))]
    return found


def _wake(server: Server, clients: Clients) -> None:
    """An unrelated request: the model's file is read, and the connection code is warm."""
    clients.one(server, chat("Good morning!", 4))


def _report(model: Path, threads: int, ttft: Waits, prefill: Waits, tokens: int) -> dict[str, Any]:
    kinds = [_FIRST, _SAME, _OTHER]
    rows: list[list[Any]] = []
    for kind in kinds:
        ours, theirs = (ttft[side][kind] for side in ("nomoat", "llama-server"))
        inside = [prefill[side][kind] for side in ("nomoat", "llama-server")]
        rows.append([
            kind, statistics.median(ours), statistics.median(theirs), ratio_words(theirs, ours),
            statistics.median(inside[0]), statistics.median(inside[1]), ratio_words(inside[1], inside[0]),
        ])  # fmt: skip
    return {
        "title": f"A prompt of {tokens:,} tokens and a restart of the server, {model.name}",
        "machine": describe_machine(),
        "detail": True,
        "columns": [
            "prompt",
            "nomoat: first piece, ms",
            "llama-server: first piece, ms",
            "sooner by",
            "nomoat: evaluation, ms",
            "llama-server: evaluation, ms",
            "less by",
        ],
        "rows": rows,
        "notes": [
            f"{threads} threads, llama-server with its default flags, new prompts in each of"
            f" {len(ttft['nomoat'][_SAME])} rounds; medians, and the median of the rounds' ratios with its 95 %"
            " interval. The wait is the client's, from sending to the first piece of text; the evaluation is what each"
            " server tells.",
        ],
        "ttft_ms": ttft,
        "prefill_ms": prefill,
    }


if __name__ == "__main__":
    main()
