"""What `nomoat measure` prints: one JSON object for scripts, compact tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from nomoat.cli.output import print_json
from nomoat.cli.store_output import console

__all__ = ["show_pareto", "show_report"]

_STYLES = {"better": "bold green", "worse": "bold red"}


def show_report(report: Mapping[str, Any], out: Path | None, files: Sequence[str], as_json: bool) -> None:
    """Print a report, without its items: those are in report.json."""
    if as_json:
        content = _without_items(report)
        if report["versus"]:
            content["versus"] = _without_items(report["versus"])
        print_json({**content, "out": None if out is None else str(out), "files": list(files)})
        return
    from nomoat.measure.report_words import Words

    words = Words(report)
    if report["versus"]:
        both = f"{report['versus']['name']} \u2192 {report['name']}"
        _print_table(("compared", both, "change (95 % interval)", "items", "verdict"), words.comparison)
    _print_table(("quality", "", report["name"], "95 % interval", ""), words.quality)
    _print_table(("speed and size", "median", "quartiles"), words.speed)
    for line in words.limits:
        console().print(Text(line, style="dim"), soft_wrap=True)
    if out is not None:
        console().print(Text(f"report: {out / 'report.html'}"), soft_wrap=True)


def show_pareto(content: Mapping[str, Any], out: Path | None, as_json: bool) -> None:
    """Print the table of models."""
    if as_json:
        print_json({**content, "out": None if out is None else str(out)})
        return
    from nomoat.measure.report_words import pareto_rows

    quality = f"{content['task']}.{content['metric']}"
    rows = [(*row[:5], "not dominated" if row[5] else "") for row in pareto_rows(content)]
    _print_table(("model", quality, "95 % interval", "on disk", "answers", ""), rows)
    if out is not None:
        console().print(Text(f"report: {out / 'pareto.html'}"), soft_wrap=True)


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(Text(title))
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console().print(table)
    console().print()


def _without_items(report: Mapping[str, Any]) -> dict[str, Any]:
    tasks = [{key: value for key, value in task.items() if key != "items"} for task in report["tasks"]]
    return {**report, "tasks": tasks}
