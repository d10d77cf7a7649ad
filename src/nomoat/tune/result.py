"""What a training run is asked, and what it came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.store.records import StoredModel
from nomoat.tune.config import TuneConfig
from nomoat.tune.evaluate import HeldOut
from nomoat.tune.export import Verification
from nomoat.tune.intervals import Interval
from nomoat.tune.run_plan import RunPlan
from nomoat.tune.trainer import TrainResult

__all__ = ["TuneRequest", "TuneResult"]

_FEWEST_DOCUMENTS = 6  # with fewer, even a change in every one of them has p > 0.05 in a sign test


@dataclass(frozen=True)
class TuneRequest:
    """`source` is the owner's folder or file, `out` the run's folder, `cache` where built kernels are kept.

    `should_stop` is asked after every step; when it says yes, everything is saved and the run ends.
    """

    source: Path
    base: StoredModel
    out: Path
    config: TuneConfig
    cache: Path
    resume: bool = False
    skip_bad: bool = False
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class TuneResult:
    """`change` is the paired change of bits per byte, after minus before; `seconds` is the whole run's time."""

    request: TuneRequest
    plan: RunPlan
    training: TrainResult
    before: HeldOut
    after: HeldOut
    change: Interval
    verification: Verification | None
    peak_memory_bytes: int
    seconds: float

    @property
    def verdict(self) -> str:
        """`better`, `not better` or `too little text to tell`, by the paired interval of bits per byte."""
        if self.change.high is None or self.change.n < _FEWEST_DOCUMENTS:
            return "too little text to tell"
        return "better" if self.change.high < 0 else "not better"

    def as_json(self) -> dict[str, Any]:
        """The contract of `nomoat tune --json`."""
        request, change = self.request, self.change
        return {
            "adapter": str(request.out), "base": request.base.name, "base_digest": request.base.digest,
            "train_tokens": self.training.train_tokens,
            "train_tokens_per_second": self.training.tokens_per_second, "steps": self.training.steps,
            "train_seconds": self.training.train_seconds, "seconds": self.seconds,
            "precision": self.plan.precision, "peak_memory_bytes": self.peak_memory_bytes,
            "before": self.before.as_json(), "after": self.after.as_json(),
            "change_bits_per_byte": {"value": change.estimate, "interval": [change.low, change.high]},
            "verdict": self.verdict,
            "verification": self.verification.as_json() if self.verification else None,
        }  # fmt: skip
