"""Completions: how many bits a byte of the known continuation costs the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nomoat.base.progress import Progress
from nomoat.measure.questions import Completion
from nomoat.measure.results import Item, TaskResult, item_id, mean_metric
from nomoat.measure.subject import Subject

__all__ = ["Completions"]


@dataclass(frozen=True)
class Completions:
    """`bits_per_byte` of each completion after its prompt; prompts count nothing."""

    name: str
    pairs: Sequence[Completion]

    def run(self, subject: Subject, progress: Progress) -> TaskResult:
        """Score every completion."""
        progress.start(f"{self.name}: completing", len(self.pairs), "completions")
        items = []
        for pair in self.pairs:
            nats, n_bytes = (
                -subject.loglikelihood(pair.prompt, pair.completion),
                len(pair.completion.encode()),
            )
            shown = {"prompt": pair.prompt, "completion": pair.completion, "nats": nats}
            value = {"bits_per_byte": nats / math.log(2) / n_bytes}
            items.append(Item(item_id([pair.prompt, pair.completion]), value, float(n_bytes), shown))
            progress.advance(1)
        progress.finish()
        return TaskResult(
            self.name, (mean_metric("bits_per_byte", items),), tuple(items), {"completions": len(items)}
        )
