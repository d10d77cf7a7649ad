"""Which documents make up which step: a pure function of lengths, seed and step, so a resume needs no state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["Batches", "split_micro"]


class Batches:
    """Optimiser steps of up to `batch_tokens` tokens; every epoch visits every document once, in its own order."""

    def __init__(self, lengths: Sequence[int], batch_tokens: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_tokens, self._seed = batch_tokens, seed
        self._epoch_number = -1
        self._epoch: list[list[int]] = []
        wanted = round(int(self._lengths.sum()) / batch_tokens)
        self.steps_per_epoch = max(1, min(wanted, len(self._lengths)))

    def step(self, number: int) -> list[int]:
        """Indices of the documents of step `number`, counted from 0 over all epochs."""
        epoch, within = divmod(number, self.steps_per_epoch)
        if epoch != self._epoch_number:
            self._epoch_number, self._epoch = epoch, self._make_epoch(epoch)
        return self._epoch[within]

    def _make_epoch(self, epoch: int) -> list[list[int]]:
        """Cut a permutation into `steps_per_epoch` runs of nearly equal token counts."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._lengths))
        # A document belongs to the step in which its middle token falls.
        middles = np.cumsum(self._lengths[order]) - self._lengths[order] / 2
        wanted = (middles * self.steps_per_epoch / self._lengths.sum()).astype(int)
        steps: list[list[int]] = [[] for _ in range(self.steps_per_epoch)]
        step = -1
        for place, document in enumerate(order.tolist()):
            # A document longer than a step must not leave its neighbours empty: a step without a token is none.
            last_chance = self.steps_per_epoch - (len(order) - place)
            step = max(min(int(wanted[place]), step + 1), last_chance)
            steps[step].append(document)
        return steps


def split_micro(indices: Sequence[int], lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Split one step's documents into micro-batches of at most `most_tokens` (or one document each)."""
    parts: list[list[int]] = []
    room = 0
    for index in sorted(indices, key=lambda i: lengths[i]):
        if not parts or lengths[index] > room:
            parts.append([])
            room = most_tokens
        parts[-1].append(index)
        room -= lengths[index]
    return parts
