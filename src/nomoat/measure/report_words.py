"""The words and figures of a report, for the page and the terminal alike. Knows no HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomoat.measure.comparison import FEW, SHARES
from nomoat.measure.measuring import BUSY_CORES
from nomoat.tune.figures import bytes_text

__all__ = [
    "METRIC_NAMES",
    "Words",
    "comparison_rows",
    "figure",
    "number",
    "pareto_rows",
    "quality_rows",
    "speed_rows",
]

_SPACE, _DASH, _MINUS = "\u00a0", "\u2013", "\u2212"
METRIC_NAMES = {
    "acc": "right choices", "acc_norm": "right choices, per byte", "exact_match": "right answers",
    "bits_per_byte": "bits per byte", "byte_perplexity": "byte perplexity", "word_perplexity": "word perplexity",
    "perplexity": "perplexity per token",
}  # fmt: skip
"""Metrics as people call them."""


class Words:
    """A report in words: tiles, tables and limits."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self._report = report
        self.quality = quality_rows(report)
        self.speed = speed_rows(report)
        self.comparison = comparison_rows(report)

    @property
    def tiles(self) -> list[tuple[str, str, str]]:
        """(figure, unit, what it is) of the facts worth a glance."""
        memory, speed = self._report["memory"], self._report["speed"]
        tiles = []
        if speed:
            tiles.append(
                (number(speed["decode"]["tokens_per_second"]["median"]), "tok/s", "writing an answer")
            )
        if speed and speed["prompt"]:
            longest = speed["prompt"][-1]
            read = f"reading {longest['tokens']:,} tokens"
            tiles.append((number(longest["tokens_per_second"]["median"]), "tok/s", read))
        tiles.append((bytes_text(memory["file_bytes"] + memory["adapter_bytes"]), "", "on disk"))
        if memory["peak_rss_bytes"] is not None:
            tiles.append((bytes_text(memory["peak_rss_bytes"]), "", "most memory in use"))
        return tiles

    @property
    def limits(self) -> list[str]:
        """What the figures do not say."""
        report, told = self._report, []
        if report["quick"]:
            told.append("A quick look: few rounds and a part of the items.")
        if report["other_load_cores"] > BUSY_CORES and report["speed"]:
            busy = f"Other programs kept {report['other_load_cores']:.1f} cores busy meanwhile"
            told.append(f"{busy}, so the speeds are lower than this machine can do.")
        if any(task["task"] == "knowledge" for task in report["tasks"]):
            told.append("The built-in questions are few and easy: they tell a broken model from a sound one, "
                        "and hardly two good ones apart.")  # fmt: skip
        if len(report["comparison"]) > 1:
            told.append(f"{len(report['comparison'])} comparisons were made at the 5{_SPACE}% level; one in twenty "
                        "would show a difference by chance.")  # fmt: skip
        return [*told, *(f"{note[0].upper()}{note[1:]}." for note in report["notes"])]


def quality_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """(task, metric, value, 95 % interval, what chance gets) of every metric."""
    rows = []
    for task in report["tasks"]:
        for name, part in task["metrics"].items():
            interval = part["interval"]
            told = f"{figure(name, interval[0])} to {figure(name, interval[1])}" if interval else _DASH
            row = (task["task"], METRIC_NAMES[name], figure(name, part["value"]), told)
            rows.append((*row, _beside_chance(name, part) or _documents(part)))
    return rows


def comparison_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """(task and metric, before and after, change with interval, items, verdict) of every comparison."""
    rows = []
    for part in report["comparison"]:
        name = part["metric"]
        both = f"{figure(name, part['before'])} \u2192 {figure(name, part['after'])}"
        items = f"{part['gained']} won, {part['lost']} lost of {part['n']}"
        if part["p_value"] is not None:
            items += f", p{_SPACE}={_SPACE}{part['p_value']:.2g}"
        if part["few_items"]:
            items += ": few, so the interval is too narrow"
        rows.append((f"{part['task']}: {METRIC_NAMES[name]}", both, _change(part), items, part["verdict"]))
    return rows


def speed_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, median, quartiles) of everything timed, then memory and disk."""
    rows, speed, memory = [], report["speed"], report["memory"]
    if speed:
        for part in speed["prompt"]:
            rows.append((f"reading {part['tokens']:,} tokens", *_spread(part["tokens_per_second"], "tok/s")))
            rows.append((f"first token after {part['tokens']:,}", *_spread(part["ttft_seconds"], "s")))
        rows.append(("writing an answer", *_spread(speed["decode"]["tokens_per_second"], "tok/s")))
        rows.append(("loading", *_spread(speed["load_seconds"], "s")))
        rows.append(("energy for each token", *_energy(speed["energy"])))
    if memory["peak_rss_bytes"] is not None:
        rows.append(("most memory in use", bytes_text(memory["peak_rss_bytes"]),
                     f"with a context of {memory['context_length']:,} tokens"))  # fmt: skip
    rows.append(("KV cache for 1,000 tokens", bytes_text(memory["kv_bytes_per_1000_tokens"]), ""))
    adapters = f"of which adapters {bytes_text(memory['adapter_bytes'])}" if memory["adapter_bytes"] else ""
    rows.append(("on disk", bytes_text(memory["file_bytes"] + memory["adapter_bytes"]), adapters))
    return rows


def pareto_rows(content: Mapping[str, Any]) -> list[tuple[str, str, str, str, str, bool]]:
    """(model, quality, interval, disk, speed, whether it is on a front) of each model."""
    name, rows = content["metric"], []
    for model in content["models"]:
        interval, speed = model["interval"], model["tokens_per_second"]
        told = f"{figure(name, interval[0])} to {figure(name, interval[1])}" if interval else _DASH
        rows.append((model["name"], figure(name, model["quality"]), told, bytes_text(model["disk_bytes"]),
                     _DASH if speed is None else f"{number(speed)}{_SPACE}tok/s",
                     model["on_disk_front"] or model["on_speed_front"]))  # fmt: skip
    return rows


def figure(metric: str, value: float | None) -> str:
    """A metric's value as people read it."""
    if value is None:
        return _DASH
    if metric in SHARES:
        return f"{100 * value:.1f}{_SPACE}%"
    return f"{value:.3f}" if value < 100 else f"{value:,.0f}"


def number(value: float) -> str:
    """A measured quantity with three digits or so."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _beside_chance(metric: str, part: Mapping[str, Any]) -> str:
    if part.get("chance") is None:
        return "" if metric not in SHARES else _counted(part["n"], "question")
    above = f"{part['above_chance']:.2f}".replace("-", _MINUS)
    return f"chance {figure(metric, part['chance'])}; {above} of the way from there to all right"


def _documents(part: Mapping[str, Any]) -> str:
    """How many documents there were, and what so few of them do to the interval."""
    told = _counted(part["n"], "document")
    return f"{told}: few, so the interval is too narrow" if part["interval"] and part["n"] < FEW else told


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _change(part: Mapping[str, Any]) -> str:
    """`+9.0 (+2.1 to +16.0) points`, `-0.05 (-0.08 to -0.02)`."""
    scale = 100.0 if part["metric"] in SHARES else 1.0
    digits = 1 if part["metric"] in SHARES else 3

    def signed(value: float) -> str:
        text = f"{scale * value:+.{digits}f}".replace("-", _MINUS)
        return text[1:] if float(f"{scale * value:.{digits}f}") == 0 else text

    told = signed(part["change"])
    if part["interval"]:
        told += f" ({signed(part['interval'][0])} to {signed(part['interval'][1])})"
    return told + (f"{_SPACE}points" if part["metric"] in SHARES else "")


def _energy(part: Mapping[str, Any]) -> tuple[str, str]:
    if part["joules_per_token"] is not None:
        return _spread(part["joules_per_token"], "J")
    known, _, reason = part["note"].partition(": ")
    return known, reason


def _spread(part: Mapping[str, Any], unit: str) -> tuple[str, str]:
    quartiles = part["quartiles"]
    told = f"{number(quartiles[0])} to {number(quartiles[1])}, {part['rounds']} rounds" if quartiles else ""
    return f"{number(part['median'])}{_SPACE}{unit}", told
