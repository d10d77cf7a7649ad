"""Which pictures a report has, and how their axes speak."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nomoat.measure.comparison import SHARES
from nomoat.measure.pictures import Axis, Mark, Row, rows_chart
from nomoat.measure.report_words import METRIC_NAMES, figure, number
from nomoat.tune.figures import bytes_text

__all__ = ["disk_axis", "quality_axis", "report_pictures", "speed_axis"]

_SPACE = "\u00a0"


def report_pictures(report: Mapping[str, Any]) -> dict[str, Callable[[str, float], str]]:
    """Name to a function that draws it for a width; only what was measured."""
    pictures = {}
    shares = _rows(report, lambda name: name in SHARES)
    if shares:
        pictures["shares"] = _chart(shares, quality_axis("", "acc", fixed=True), "Share of right answers")
    bits = _rows(report, lambda name: name == "bits_per_byte")
    if bits:
        pictures["bits"] = _chart(bits, quality_axis("", "bits_per_byte"), "Bits per byte")
    speed = _speed_picture(report)
    if speed:
        pictures["speed"] = _chart(speed, speed_axis(), "Speed")
    return pictures


def quality_axis(task: str, metric: str, fixed: bool = False) -> Axis:
    """The axis of a metric; `fixed` lets shares end at 100 %."""
    what = f"{task}: {METRIC_NAMES[metric]}" if task else METRIC_NAMES[metric]
    if metric in SHARES:
        what = what if task else "share of right answers"
        return Axis(f"{what} (more is better)", lambda v: figure(metric, v), lambda v: f"{100 * v:.3g}{_SPACE}%",
                    0.0, 1.0 if fixed else None)  # fmt: skip
    return Axis(f"{what} (less is better)", lambda v: figure(metric, v), lambda v: f"{v:.4g}")


def disk_axis() -> Axis:
    """Bytes, told as GB."""
    return Axis("GB on disk", lambda v: bytes_text(round(v)), lambda v: f"{v / 1e9:.3g}")


def speed_axis() -> Axis:
    """Tokens per second."""
    return Axis("tokens per second (more is better)", number, lambda v: f"{v:,.6g}")


def _rows(report: Mapping[str, Any], wanted: Callable[[str], bool]) -> list[Row]:
    others = {task["task"]: task["metrics"] for task in (report["versus"] or {"tasks": []})["tasks"]}
    rows = []
    for task in report["tasks"]:
        for name, part in task["metrics"].items():
            if not wanted(name) or part["value"] is None:
                continue
            before = others.get(task["task"], {}).get(name)
            marks = ([_mark(before, "before")] if before else []) + [_mark(part, "after")]
            rows.append(Row(f"{task['task']}: {METRIC_NAMES[name]}", tuple(marks), part.get("chance")))
    return rows


def _speed_picture(report: Mapping[str, Any]) -> list[Row]:
    def figures(speed: Mapping[str, Any] | None) -> dict[str, Any]:
        if not speed:
            return {}
        read = {f"reading {part['tokens']:,} tokens": part["tokens_per_second"] for part in speed["prompt"]}
        return {**read, "writing an answer": speed["decode"]["tokens_per_second"]}

    before = figures((report["versus"] or {}).get("speed"))
    return [
        Row(what, (*((_timed(before[what], "before"),) if what in before else ()), _timed(part, "after")))
        for what, part in figures(report["speed"]).items()
    ]


def _mark(part: Mapping[str, Any], style: str) -> Mark:
    return Mark(part["value"], tuple(part["interval"]) if part["interval"] else None, style)


def _timed(part: Mapping[str, Any], style: str) -> Mark:
    return Mark(part["median"], tuple(part["quartiles"]) if part["quartiles"] else None, style)


def _chart(rows: list[Row], axis: Axis, title: str) -> Callable[[str, float], str]:
    return lambda name, width: rows_chart(rows, axis, title, name, width)
