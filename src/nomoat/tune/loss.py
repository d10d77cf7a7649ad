"""Next-token loss on supervised rows only: lm_head and cross-entropy in chunks, dX formed in the same pass.

Logits never exist for more than one chunk, and never for a row whose next token nobody supervises.
"""

from __future__ import annotations

import torch

from nomoat.tune.ops import Ops
from nomoat.tune.weights import WeightGroup

__all__ = ["HeadLoss"]

_CHUNK_BYTES = 64 * 2**20  # logits at a time


class HeadLoss:
    """lm_head (V, D), frozen, followed by cross-entropy."""

    def __init__(self, lm_head: WeightGroup, ops: Ops) -> None:
        self.lm_head, self.ops = lm_head, ops

    def losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """hidden (S, D), targets (S,) int64 -> losses (S,) float32 in nats."""
        return self._run(hidden, targets, 0.0)[0]

    def losses_and_gradient(
        self, hidden: torch.Tensor, targets: torch.Tensor, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Also the gradient (S, D) of `scale * sum(losses)` for hidden."""
        losses, gradient = self._run(hidden, targets, scale)
        assert gradient is not None
        return losses, gradient

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(S, D) -> (S, V) float32; for parity tests."""
        return (hidden @ self.lm_head.dense().T).float()

    def _run(
        self, hidden: torch.Tensor, targets: torch.Tensor, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        losses = torch.empty(len(targets), dtype=torch.float32)
        gradient = torch.empty_like(hidden) if scale else None
        weight = self.lm_head.dense()
        chunk = max(16, _CHUNK_BYTES // (weight.shape[0] * weight.element_size()))
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            logits = hidden[part] @ weight.T
            losses[part] = self.ops.cross_entropy(logits, targets[part], scale)
            if gradient is not None:
                torch.mm(logits, weight, out=gradient[part])
        return losses, gradient
