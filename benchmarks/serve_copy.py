"""Answers that repeat their prompt, and answers that do not: nomoat, llama-server, and it with n-gram speculation.

    serve_copy.py [--rounds N] [--new-tokens N] [--speculation TYPE] [--model FILE] [--quick]

All three take turns on the same new prompts, one client. Prints one JSON object for scripts/bench_tables.py;
tells its progress on standard error.
"""

from __future__ import annotations

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
from ratios import geometric_mean, interval, ratio_words
from serve_load import Answer, Clients, chat
from serve_options import Options
from serve_prompts import COPYING, PLAIN, copied_share
from servers import Server, embedded_model, llama_server, nomoat_server

from nomoat.measure.machine import describe_machine, load_words
from nomoat.run.machine_load import OtherLoad
from nomoat.run.threads import usable_cores

__all__ = ["main"]

_QUIET_CORES, _LEAST_TURNS = 0.25, 2
_OURS, _DEFAULT = "nomoat", "llama-server"
Found = dict[str, dict[str, list[Answer]]]
"""Class of prompt -> side -> answers, round by round."""
Shares = dict[str, list[float]]
"""Class of prompt -> how much of llama-server's answer stands in the prompt, round by round."""


def main(usual: Path | None = None) -> None:
    """Measure and print; `usual` is the model where the command line names none."""
    parser = Options(__doc__, new_tokens=8, starts=1)
    parser.number("--rounds", 3, "prompts of each class at each start")
    parser.number("--starts", 4, "times that the servers are started anew")
    parser.number("--new-tokens", 160, "longest answer")
    parser.add_argument("--speculation", default="ngram-simple", help="llama-server's --spec-type")
    options = parser.read()
    model, threads = options.model or usual or embedded_model(), usable_cores()
    program = build_llama_server()
    sides = (_OURS, _DEFAULT, f"{_DEFAULT}, {options.speculation}")
    found: Found = {kind: {side: [] for side in sides} for kind in (*COPYING, *PLAIN)}
    shares: Shares = defaultdict(list)
    with Clients(options.patience) as clients:
        load = OtherLoad()
        # Where the kernel puts the pages of a process makes some percent of difference as long as it lives.
        for start in range(options.starts):
            with ExitStack() as stack:
                servers = _servers(stack, program, model, threads, options.speculation)
                numbers = range(start * options.rounds, (start + 1) * options.rounds)
                _measure(servers, clients, numbers, options.new_tokens, found, shares)
        note = load_words(load)
    report = _report(model, threads, _undisturbed(found), shares)
    report["notes"].append(note)
    print(json.dumps(report, ensure_ascii=False))


def _servers(stack: ExitStack, program: Path, model: Path, threads: int, speculation: str) -> list[Server]:
    home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    sides = [
        nomoat_server(model, home, threads=threads, name=_OURS),
        llama_server(program, model, threads=threads, name=_DEFAULT),
        llama_server(
            program, model, "--spec-type", speculation, threads=threads, name=f"{_DEFAULT}, {speculation}"
        ),
    ]
    return [stack.enter_context(side) for side in sides]


def _measure(
    servers: list[Server], clients: Clients, numbers: range, new_tokens: int, found: Found, shares: Shares
) -> None:
    for server in servers:
        clients.one(server, chat("Good morning! What is your name?", 64))
    for number in numbers:
        draw = random.Random(number)
        for kind, make in (COPYING | PLAIN).items():
            text = make(draw)
            body = chat(text, new_tokens)
            for server in random.sample(servers, len(servers)):
                found[kind][server.name].append(clients.one(server, body))
            shares[kind].append(copied_share(text, found[kind][_DEFAULT][-1].text))
            rates = ", ".join(
                f"{name}: {answers[-1].tokens_per_second:.0f}" for name, answers in found[kind].items()
            )
            sys.stderr.write(f"round {number + 1}, {kind}: {rates} tok/s\n")


def _rates(answers: list[Answer]) -> list[float]:
    return [answer.tokens_per_second for answer in answers]


def _undisturbed(found: Found) -> Found:
    """Without the prompts at which another program ran on any side, where enough others are left in the class."""
    kept: Found = {}
    for kind, answers in found.items():
        turns = list(zip(*answers.values(), strict=True))
        quiet = [turn for turn in turns if max(answer.other_cores for answer in turn) <= _QUIET_CORES]
        chosen = quiet if len(quiet) >= _LEAST_TURNS else turns
        kept[kind] = {side: [turn[index] for turn in chosen] for index, side in enumerate(answers)}
    return kept


def _report(model: Path, threads: int, found: Found, shares: Shares) -> dict[str, Any]:
    rows: list[list[Any]] = []
    sides = list(next(iter(found.values())))
    for kind, answers in found.items():
        rates = {side: _rates(answers[side]) for side in sides}
        rows.append([
            kind, f"{statistics.fmean(shares[kind]):.0%}", *(statistics.median(rates[side]) for side in sides),
            ratio_words(rates[_OURS], rates[_DEFAULT]), ratio_words(rates[sides[2]], rates[_DEFAULT]),
        ])  # fmt: skip
    for label, kinds in (("mean of those that copy", COPYING), ("mean of the others", PLAIN)):
        means = [_mean(found, list(kinds), side) for side in (_OURS, sides[2])]
        rows.append([label, "", "", "", "", *means])
    same = sum(
        a.text == b.text
        for answers in found.values()
        for a, b in zip(answers[_OURS], answers[_DEFAULT], strict=True)
    )
    counts = [len(answers[_OURS]) for answers in found.values()]
    count = sum(counts)
    return {
        "title": f"Answers that repeat their prompt and others, {model.name}",
        "machine": describe_machine(),
        "detail": True,
        "columns": ["prompts", "copied", *(f"{side}, tok/s" for side in sides), "nomoat / llama-server",
                    f"{sides[2]} / default"],
        "rows": rows,
        "notes": [
            f"Greedy, one client, {threads} threads, medians over {min(counts)} to {max(counts)} new prompts of each"
            " class (those at which another program ran are left out);"
            " tokens after the first, the one that means the end among them, by the time since then; all"
            " were started anew several times. Ratios are medians of the prompts' ratios with"
            f" 95 % intervals, means are geometric ones over the prompts."
            f" nomoat and llama-server gave the same text to {same} of {count}"
            " prompts. Copied: the share of an answer's runs of six words that stand in the prompt.",
        ],
        "rates": {kind: {side: _rates(answers[side]) for side in sides} for kind, answers in found.items()},
        "drafts": {kind: [_drafts(answer) for answer in answers[_OURS]] for kind, answers in found.items()},
    }  # fmt: skip


def _mean(found: Found, kinds: list[str], side: str) -> str:
    """Geometric mean over all prompts of these classes of the ratio to llama-server, with its interval."""
    ratios = [
        a / b
        for kind in kinds
        for a, b in zip(_rates(found[kind][side]), _rates(found[kind][_DEFAULT]), strict=True)
    ]
    low, high = interval(ratios, geometric_mean)
    return f"{geometric_mean(ratios):.3g} ({low:.3g} to {high:.3g})"


def _drafts(answer: Answer) -> list[int]:
    """Tokens, those drafted and those accepted, as the server tells."""
    return [answer.tokens, answer.timings.get("draft_n", 0), answer.timings.get("draft_n_accepted", 0)]


if __name__ == "__main__":
    main()
