"""What both sides of the comparison have in common: they train on rounds of batches and are timed the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nomoat.tune.tokenise import Example

__all__ = ["LEARNING_RATE", "LORA_ALPHA", "MAX_GRAD_NORM", "PEFT_VARIANTS", "R", "Side", "Timing"]

R, LORA_ALPHA, LEARNING_RATE, MAX_GRAD_NORM = 16, 32, 1e-4, 1.0

PEFT_VARIANTS = {
    "fp32": "transformers + PEFT, fp32",
    "bf16": "transformers + PEFT, model loaded in bf16",
    "bf16-autocast": "transformers + PEFT, model loaded in bf16, Trainer's bf16=True (autocast)",
}


@dataclass(frozen=True)
class Timing:
    """Whole optimiser steps: `tokens` are real ones, padding never counts."""

    tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Real tokens per second."""
        return self.tokens / self.seconds


class Side(Protocol):
    """One way to train; `precision` is `fp32` or `bf16`, `label` says what runs."""

    label: str
    precision: str

    def loss(self, batch: Sequence[Example]) -> float:
        """Mean loss of the supervised tokens in nats, nothing learned: both sides must agree on it."""

    def train(self, batches: Sequence[Sequence[Example]]) -> Timing:
        """Train once on every document of `batches`, in whole optimiser steps."""
