"""What a task finds: one row for each item, and metrics with their intervals. The same rows make pairs later.

Metrics carry lm_eval's names: `acc`, `acc_norm`, `exact_match`, `bits_per_byte`, `byte_perplexity`,
`word_perplexity`. The JSON form is what `report.json` holds and what two reports are compared by.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nomoat.tune.intervals import Interval, bootstrap_mean, wilson_interval

__all__ = ["HIGHER_IS_BETTER", "Item", "Metric", "TaskResult", "item_id", "mean_metric", "share_metric"]

HIGHER_IS_BETTER = {
    "acc": True, "acc_norm": True, "exact_match": True, "bits_per_byte": False, "byte_perplexity": False,
    "word_perplexity": False, "perplexity": False,
}  # fmt: skip
"""Every metric, and which way is up."""


@dataclass(frozen=True)
class Item:
    """One question or one document: the value of each metric, and what a reader should see of it.

    `weight` is what the item counts in a mean: bytes of a document, 1 for a question.
    """

    id: str
    values: dict[str, float]
    weight: float = 1.0
    shown: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """`id`, `weight`, the metrics and what is shown, side by side."""
        return {"id": self.id, "weight": self.weight, **self.values, **self.shown}


@dataclass(frozen=True)
class Metric:
    """One figure of a task. `chance` is what guessing would get, None where that means nothing."""

    name: str
    interval: Interval
    chance: float | None = None

    def as_json(self) -> dict[str, Any]:
        """`value`, `interval`, `n`, `higher_is_better`; with `chance`, the share of the way from it to 1."""
        part = self.interval
        content: dict[str, Any] = {
            "value": part.estimate if math.isfinite(part.estimate) else None,
            "interval": None if part.low is None else [part.low, part.high],
            "n": part.n,
            "higher_is_better": HIGHER_IS_BETTER[self.name],
        }
        if self.chance is not None:
            content["chance"] = self.chance
            content["above_chance"] = (part.estimate - self.chance) / (1 - self.chance)
        return content


@dataclass(frozen=True)
class TaskResult:
    """A task, done. `settings` is how it was measured; results with other settings are not comparable."""

    task: str
    metrics: tuple[Metric, ...]
    items: tuple[Item, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The task's entry in `report.json`."""
        return {
            "task": self.task, "settings": self.settings,
            "metrics": {metric.name: metric.as_json() for metric in self.metrics},
            "items": [item.as_json() for item in self.items],
        }  # fmt: skip


def share_metric(name: str, items: Sequence[Item], chance: float | None = None) -> Metric:
    """The share of items whose value of `name` is 1, with Wilson's interval."""
    return Metric(name, wilson_interval(round(sum(item.values[name] for item in items)), len(items)), chance)


def mean_metric(name: str, items: Sequence[Item]) -> Metric:
    """The weighted mean of `name`, with its bootstrap interval over items."""
    values = [item.values[name] for item in items]
    return Metric(name, bootstrap_mean(values, [item.weight for item in items]))


def item_id(content: Any) -> str:
    """16 hex digits that name an item by its content, so that two reports can be paired."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
