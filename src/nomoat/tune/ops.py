"""The network's elementwise operations, forward and backward: fused kernels, or torch where none were built.

Both classes have the same methods and are tested against each other. T is the number of tokens of a packed
micro-batch; every tensor is contiguous and of the compute dtype unless it says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F

from nomoat.tune.native.build import built_library
from nomoat.tune.native.kernels import Kernels

__all__ = ["EagerOps", "FusedOps", "Ops", "RopeTable", "load_ops"]


class RopeTable:
    """Cosines and sines (positions, rotary / 2) float32, and how the rotated pairs lie.

    `interleaved` pairs (2i, 2i+1) is GGUF's order for architecture llama; (i, i + rotary/2) is qwen2's.
    """

    def __init__(self, cosines: torch.Tensor, sines: torch.Tensor, interleaved: bool) -> None:
        self.cosines, self.sines, self.interleaved = cosines.contiguous(), sines.contiguous(), interleaved


class Ops(Protocol):
    """What the network asks for."""

    def rmsnorm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        """x (T, D), weight (D,) float32 -> normalised (T, D), reciprocal rms (T,) float32."""

    def rmsnorm_backward(
        self,
        grad: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        rstd: torch.Tensor,
        into: torch.Tensor,
    ) -> None:
        """Add the gradient for x (T, D) to `into` (T, D)."""

    def rope(
        self, x: torch.Tensor, positions: torch.Tensor, table: RopeTable, head_dim: int, undo: bool
    ) -> None:
        """Rotate the heads of x (T, heads * head_dim), rows may be strided, in place; `undo` turns them back."""

    def swiglu(self, gate_up: torch.Tensor) -> torch.Tensor:
        """(T, 2F) gate then up -> silu(gate) * up (T, F)."""

    def swiglu_backward(self, grad: torch.Tensor, gate_up: torch.Tensor) -> torch.Tensor:
        """Gradient (T, 2F) for gate_up from grad (T, F)."""

    def causal_softmax(self, scores: torch.Tensor, queries: int, first: int, scale: float) -> torch.Tensor:
        """scores (M, heads * queries, keys) become probabilities; returns log-sums (M, heads * queries) float32.

        Row `h * queries + i` is the query at position `first + i`; it sees keys 0 to `first + i`.
        """

    def causal_softmax_backward(
        self, scores: torch.Tensor, grad: torch.Tensor, log_sums: torch.Tensor, delta: torch.Tensor,
        queries: int, first: int, scale: float,
    ) -> None:  # fmt: skip
        """scores become probabilities, grad becomes the scores' gradient; delta is rowsum(grad_out * out)."""

    def cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor, scale: float) -> torch.Tensor:
        """Loss (S,) float32 in nats; logits (S, V) become their gradient times `scale` (kept where 0)."""


class FusedOps:
    """One pass over memory for each operation, in C."""

    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels

    def rmsnorm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        out, rstd = torch.empty_like(x), torch.empty(x.shape[0], dtype=torch.float32)
        self.kernels("rmsnorm_forward", x.dtype, x, None, weight, out, rstd, *x.shape, eps)
        return out, rstd

    def rmsnorm_backward(
        self,
        grad: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        rstd: torch.Tensor,
        into: torch.Tensor,
    ) -> None:
        self.kernels("rmsnorm_backward", x.dtype, grad, x, weight, rstd, into, *x.shape)

    def rope(
        self, x: torch.Tensor, positions: torch.Tensor, table: RopeTable, head_dim: int, undo: bool
    ) -> None:
        heads, rotary = x.shape[1] // head_dim, 2 * table.cosines.shape[1]
        self.kernels("rope", x.dtype, x, positions, table.cosines, table.sines, x.shape[0], heads, head_dim,
                     rotary, x.stride(0), int(table.interleaved), -1.0 if undo else 1.0)  # fmt: skip

    def swiglu(self, gate_up: torch.Tensor) -> torch.Tensor:
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = gate_up.new_empty(rows, width)
        self.kernels("swiglu_forward", gate_up.dtype, gate_up, out, rows, width)
        return out

    def swiglu_backward(self, grad: torch.Tensor, gate_up: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(gate_up)
        self.kernels("swiglu_backward", grad.dtype, grad, gate_up, out, *grad.shape)
        return out

    def causal_softmax(self, scores: torch.Tensor, queries: int, first: int, scale: float) -> torch.Tensor:
        log_sums = torch.empty(scores.shape[:2], dtype=torch.float32)
        self.kernels("causal_softmax", scores.dtype, scores, log_sums, log_sums.numel(), queries,
                     scores.shape[2], first, scale)  # fmt: skip
        return log_sums

    def causal_softmax_backward(
        self, scores: torch.Tensor, grad: torch.Tensor, log_sums: torch.Tensor, delta: torch.Tensor,
        queries: int, first: int, scale: float,
    ) -> None:  # fmt: skip
        self.kernels("causal_softmax_backward", scores.dtype, scores, grad, log_sums, delta, log_sums.numel(),
                     queries, scores.shape[2], first, scale)  # fmt: skip

    def cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor, scale: float) -> torch.Tensor:
        loss = torch.empty(logits.shape[0], dtype=torch.float32)
        self.kernels("cross_entropy", logits.dtype, logits, targets, loss, *logits.shape, scale)
        return loss


class EagerOps:
    """The same in torch, for machines without a compiler, and as the oracle of the fused ones."""

    def rmsnorm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        wide = x.float()
        rstd = torch.rsqrt(wide.square().mean(-1) + eps)
        return (wide * rstd[:, None] * weight).to(x.dtype), rstd

    def rmsnorm_backward(
        self,
        grad: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        rstd: torch.Tensor,
        into: torch.Tensor,
    ) -> None:
        scaled, s = grad.float() * weight, rstd[:, None]
        wide = x.float()
        dot = (scaled * wide).mean(-1, keepdim=True)
        into.copy_(into.float() + scaled * s - wide * (dot * s * s * s))

    def rope(
        self, x: torch.Tensor, positions: torch.Tensor, table: RopeTable, head_dim: int, undo: bool
    ) -> None:
        index = positions.long()
        cosines, sines = table.cosines[index][:, None, :], table.sines[index][:, None, :]
        if undo:
            sines = -sines
        half = table.cosines.shape[1]
        heads = x.unflatten(1, (-1, head_dim))  # a view: the result is written back into x
        if table.interleaved:
            first, second = heads[..., 0 : 2 * half : 2], heads[..., 1 : 2 * half : 2]
        else:
            first, second = heads[..., :half], heads[..., half : 2 * half]
        a, b = first.float(), second.float()
        rotated_first, rotated_second = a * cosines - b * sines, a * sines + b * cosines
        first.copy_(rotated_first)
        second.copy_(rotated_second)

    def swiglu(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.float().chunk(2, dim=1)
        return (F.silu(gate) * up).to(gate_up.dtype)

    def swiglu_backward(self, grad: torch.Tensor, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.float().chunk(2, dim=1)
        sigmoid, wide = torch.sigmoid(gate), grad.float()
        d_gate = wide * up * sigmoid * (1 + gate * (1 - sigmoid))
        return torch.cat([d_gate, wide * gate * sigmoid], dim=1).to(grad.dtype)

    def causal_softmax(self, scores: torch.Tensor, queries: int, first: int, scale: float) -> torch.Tensor:
        wide = self._masked(scores, queries, first, scale)
        log_sums = torch.logsumexp(wide, dim=-1)
        scores.copy_(torch.exp(wide - log_sums[..., None]))
        return log_sums

    def causal_softmax_backward(
        self, scores: torch.Tensor, grad: torch.Tensor, log_sums: torch.Tensor, delta: torch.Tensor,
        queries: int, first: int, scale: float,
    ) -> None:  # fmt: skip
        probabilities = torch.exp(self._masked(scores, queries, first, scale) - log_sums[..., None])
        scores.copy_(probabilities)
        grad.copy_(probabilities * (grad.float() - delta[..., None]) * scale)

    @staticmethod
    def _masked(scores: torch.Tensor, queries: int, first: int, scale: float) -> torch.Tensor:
        positions = torch.arange(scores.shape[1]).remainder(queries) + first
        hidden = torch.arange(scores.shape[2])[None, :] > positions[:, None]
        return (scores.float() * scale).masked_fill(hidden, float("-inf"))

    def cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor, scale: float) -> torch.Tensor:
        log_probabilities = torch.log_softmax(logits.float(), dim=1)
        loss = -log_probabilities.gather(1, targets[:, None])[:, 0]
        if scale:
            gradient = log_probabilities.exp_()
            gradient[torch.arange(len(targets)), targets] -= 1
            logits.copy_(gradient.mul_(scale))
        return loss


def load_ops(cache: Path, march: str = "native") -> FusedOps | EagerOps:
    """The fused operations, built into `cache` at first use; the eager ones where no compiler is found."""
    for _ in range(2):
        library = built_library(cache, march)
        if library is None:
            break
        try:
            return FusedOps(Kernels(library))
        except OSError:
            library.unlink(missing_ok=True)  # damaged in the cache: build it once more
    return EagerOps()
