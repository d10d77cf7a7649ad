"""Held-out loss by document: nats per token and bits per byte, with intervals over documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nomoat.base.progress import Progress
from nomoat.tune.batches import split_micro
from nomoat.tune.intervals import Interval, bits_per_byte_by_document, bootstrap_mean, paired_bootstrap
from nomoat.tune.network import Network
from nomoat.tune.packing import pack
from nomoat.tune.tokenise import Example

__all__ = ["HeldOut", "evaluate", "improvement"]


@dataclass(frozen=True)
class HeldOut:
    """Loss of one model on the held-out documents; intervals are 95 %, by document.

    `loss` is nats per supervised token; `bits_per_byte` the same information per byte of text, which compares
    models with different tokenizers. `by_document` holds bits per byte and bytes for each document.
    """

    loss: Interval
    bits_per_byte: Interval
    by_document: tuple[np.ndarray, np.ndarray]

    def as_json(self) -> dict[str, Any]:
        """The figures, without the per-document arrays."""
        return {
            "loss": self.loss.estimate, "loss_interval": [self.loss.low, self.loss.high],
            "bits_per_byte": self.bits_per_byte.estimate,
            "bits_per_byte_interval": [self.bits_per_byte.low, self.bits_per_byte.high],
            "documents": self.bits_per_byte.n,
        }  # fmt: skip


def evaluate(
    network: Network, examples: Sequence[Example], micro_tokens: int, progress: Progress, label: str
) -> HeldOut:
    """Loss of `network`, adapters as they are switched, on every held-out document."""
    lengths = [len(example.tokens) for example in examples]
    nats = np.zeros(len(examples))
    progress.start(label, sum(lengths), "tok")
    for part in split_micro(range(len(examples)), lengths, micro_tokens):
        batch = pack([examples[i] for i in part])
        losses = network.losses(batch).double().numpy()
        nats += np.bincount(np.asarray(part)[batch.target_documents.numpy()], losses, len(examples))
        progress.advance(batch.n_tokens)
    progress.finish()
    documents = [example.document_id for example in examples]
    tokens = np.array([example.supervised[1:].sum() for example in examples])
    bits, n_bytes = bits_per_byte_by_document(documents, nats, [e.n_bytes_supervised for e in examples])
    loss, weights = bits_per_byte_by_document(documents, nats * math.log(2), tokens)
    return HeldOut(bootstrap_mean(loss, weights), bootstrap_mean(bits, n_bytes), (bits, n_bytes))


def improvement(before: HeldOut, after: HeldOut) -> Interval:
    """Change of bits per byte, after minus before, paired by document; below 0 is better."""
    return paired_bootstrap(before.by_document[0], after.by_document[0], before.by_document[1])
