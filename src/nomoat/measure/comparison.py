"""Two results of one task, item by item: how far the second is from the first, and whether that may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

from nomoat.measure.results import HIGHER_IS_BETTER
from nomoat.tune.intervals import Interval, paired_bootstrap

__all__ = ["FEW", "SHARES", "Difference", "compare_tasks", "mcnemar", "verdict_of"]

SHARES = ("acc", "acc_norm", "exact_match")
"""Metrics whose items are right or wrong: McNemar's test decides, and the bootstrap otherwise."""
_LEVEL = 0.05
FEW = 10
"""Documents below which a bootstrap interval is narrower than it should be."""


@dataclass(frozen=True)
class Difference:
    """A metric of a task, before and after on the same `n` items. `change` is after minus before.

    `p_value` is McNemar's, exact and two-sided, None for means. `gained` and `lost` count items that only the
    second or only the first got right (for means: predicted better or worse).
    """

    task: str
    metric: str
    before: float
    after: float
    change: Interval
    p_value: float | None
    gained: int
    lost: int
    verdict: str

    @property
    def few(self) -> bool:
        """Whether the items are so few that the interval comes out too narrow."""
        return self.metric not in SHARES and self.change.n < FEW

    def as_json(self) -> dict[str, Any]:
        """One entry of `comparison` in a report."""
        part = self.change
        return {
            "task": self.task, "metric": self.metric, "before": self.before, "after": self.after,
            "change": part.estimate, "interval": None if part.low is None else [part.low, part.high], "n": part.n,
            "p_value": self.p_value, "gained": self.gained, "lost": self.lost, "few_items": self.few,
            "verdict": self.verdict,
        }  # fmt: skip


def compare_tasks(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> tuple[list[Difference], list[str]]:
    """Differences of the tasks that two reports share (their `tasks`), and why the others have none."""
    found, notes, known = [], [], {task["task"]: task for task in before}
    for task in after:
        name, other = task["task"], known.get(task["task"])
        pairs = _pairs(other, task) if other is not None else []
        if other is None:
            notes.append(f"{name}: only one of the two measured it")
        elif _method(other) != _method(task):
            notes.append(f"{name}: measured with other settings, so not compared")
        elif not pairs:
            notes.append(f"{name}: no item is in both")
        else:
            found += [
                _difference(name, metric, pairs) for metric in HIGHER_IS_BETTER if metric in pairs[0][0]
            ]
            most = max(len(other["items"]), len(task["items"]))
            if len(pairs) < most:
                notes.append(f"{name}: {len(pairs)} of {most} items are in both and were compared")
    return found, notes


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p-value of McNemar's test: the chance of a division at least as uneven, were it a coin's."""
    n, fewer = gained + lost, min(gained, lost)
    tail: float = sum(comb(n, k) for k in range(fewer + 1)) / 2**n
    return min(1.0, 2 * tail)


def verdict_of(change: Interval, p_value: float | None, higher_is_better: bool) -> str:
    """`better`, `worse` or `not shown to differ`, at the 5 % level."""
    shown = change.excludes_zero() if p_value is None else p_value < _LEVEL
    if not shown:
        return "not shown to differ"
    return "better" if (change.estimate > 0) == higher_is_better else "worse"


def _difference(
    task: str, metric: str, pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> Difference:
    first, second = ([pair[side][metric] for pair in pairs] for side in (0, 1))
    weights = [pair[0]["weight"] for pair in pairs]
    up = HIGHER_IS_BETTER[metric]
    change = paired_bootstrap(first, second, weights)
    gained = sum((b > a) == up for a, b in zip(first, second, strict=True) if a != b)
    lost = sum(a != b for a, b in zip(first, second, strict=True)) - gained
    p_value = mcnemar(gained, lost) if metric in SHARES else None
    before, after = (_mean(values, weights) for values in (first, second))
    verdict = verdict_of(change, p_value, up)
    return Difference(task, metric, before, after, change, p_value, gained, lost, verdict)


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def _pairs(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    known = {item["id"]: item for item in first["items"]}
    return [(known[item["id"]], item) for item in second["items"] if item["id"] in known]


def _method(task: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without what only counts the items; a window differs with the context, a count does not matter."""
    counts = ("questions", "completions", "documents", "tokens")
    return {key: value for key, value in task["settings"].items() if key not in counts}
