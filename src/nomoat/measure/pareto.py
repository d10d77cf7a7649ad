"""Which of several models are worth having: those that no other one beats in quality and in cost at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nomoat.base.errors import InputError
from nomoat.measure.results import HIGHER_IS_BETTER

__all__ = ["Candidate", "choose_quality", "front", "gather"]

_PREFERRED = (("passages", "bits_per_byte"), ("text", "bits_per_byte"), ("knowledge", "acc_norm"))


@dataclass(frozen=True)
class Candidate:
    """A measured model: its quality with interval, its bytes on disk, its speed (None where not measured)."""

    name: str
    quality: float
    interval: tuple[float, float] | None
    disk_bytes: int
    tokens_per_second: float | None


def choose_quality(reports: Sequence[Mapping[str, Any]], wanted: str | None) -> tuple[str, str]:
    """`(task, metric)` that every report has: the one `wanted` ("knowledge.acc"), else the most telling.

    Raises `InputError` where there is none.
    """
    shared = set.intersection(*(_figures(report) for report in reports))
    if wanted is not None:
        task, _, metric = wanted.rpartition(".")
        if (task, metric) not in shared:
            raise InputError(f"not every report has {wanted!r}", f"all of them have: {_names(shared)}")
        return task, metric
    if not shared:
        raise InputError("the reports have no task in common", "measure the models with the same --tasks")
    return next((pair for pair in _PREFERRED if pair in shared), min(shared))


def gather(reports: Sequence[Mapping[str, Any]], task: str, metric: str) -> list[Candidate]:
    """One candidate for each report."""
    found = []
    for report in reports:
        tasks = {part["task"]: part for part in report["tasks"]}
        figure, memory, speed = tasks[task]["metrics"][metric], report["memory"], report.get("speed")
        interval = figure["interval"]
        found.append(
            Candidate(
                report["name"], figure["value"], tuple(interval) if interval else None,
                memory["file_bytes"] + memory["adapter_bytes"],
                speed["decode"]["tokens_per_second"]["median"] if speed else None,
            )
        )  # fmt: skip
    return found


def front(points: Sequence[tuple[float, float]], x_higher: bool, y_higher: bool) -> list[bool]:
    """Which of `points` no other one dominates: is at least as good in both coordinates, and not the same point."""
    signed = [(x if x_higher else -x, y if y_higher else -y) for x, y in points]
    return [
        not any(other != own and other[0] >= own[0] and other[1] >= own[1] for other in signed)
        for own in signed
    ]


def _figures(report: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {
        (task["task"], metric)
        for task in report["tasks"]
        for metric in task["metrics"]
        if metric in HIGHER_IS_BETTER
    }


def _names(pairs: set[tuple[str, str]]) -> str:
    return ", ".join(sorted(f"{task}.{metric}" for task, metric in pairs)) or "nothing"
