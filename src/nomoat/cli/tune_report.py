"""The end of a training run at the terminal: verdict, before and after, what it took, what to try next.

Standard error only. The words and figures come from `nomoat.tune.report_text`, which report.html uses too.
"""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_report"]

_STYLES = {"better": "bold green", "worse": "bold red", "open": "bold yellow"}


def print_report(result: Any, extras: dict[str, Any] | None = None, console: Console | None = None) -> None:
    """Tell a person what a `TuneResult` came to; `extras` as for `write_report`, after which this is called."""
    from nomoat.tune.figures import bytes_text, duration
    from nomoat.tune.report import run_command
    from nomoat.tune.report_facts import gather_facts
    from nomoat.tune.report_text import result_rows, tell

    console = console or Console(file=sys.stderr, highlight=False)
    facts, training, out = gather_facts(result, extras), result.training, result.request.out
    verdict = tell(facts)
    _say(console, "")
    _say(console, Text.assemble((verdict.word, _STYLES[verdict.tone]), f": {verdict.sentence}"))
    if verdict.advice:
        _say(console, verdict.advice)
    _say(console, Text(" ".join(verdict.limits), style="dim"))
    _say(console, "")
    console.print(_table(result_rows(facts)))
    _say(console, "")
    parts = [
        f"{training.train_tokens:,} tokens in {duration(training.train_seconds)}, "
        f"{training.tokens_per_second:,.0f} tokens/s in {result.plan.precision}",
        f"{duration(result.seconds)} in all",
        f"at most {bytes_text(result.peak_memory_bytes)} of memory",
    ]
    _say(console, "; ".join(parts))
    _say(console, "")
    for label, value in (
        ("adapter", str(out)),
        ("report", str(out / "report.html")),
        ("try", run_command(result)),
    ):
        _say(console, Text.assemble((f"{label:<9}", "dim"), (value, "bold" if label == "try" else "")))


def _table(rows: list[tuple[str, str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for name in ("", "before", "after"):
        table.add_column(name, no_wrap=True, style="bold" if name == "after" else "")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _say(console: Console, text: str | Text) -> None:
    """One line, never wrapped nor read as markup: paths and commands are copied from here."""
    console.print(Text(text) if isinstance(text, str) else text, soft_wrap=True)
