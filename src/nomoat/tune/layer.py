"""One decoder layer of llama and qwen2, forward and backward written out.

Written out rather than left to autograd, so that what is kept for the backward pass is chosen: products of GEMMs
are kept, cheap products (norms, SwiGLU) are computed again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nomoat.tune.attention import Attention
from nomoat.tune.lora import LinearGroup
from nomoat.tune.ops import Ops, RopeTable
from nomoat.tune.packing import PackedBatch

__all__ = ["DecoderLayer", "LayerState"]


@dataclass
class LayerState:
    """What one layer's backward pass needs of its forward pass; shapes as in `DecoderLayer.forward`."""

    x: torch.Tensor
    qkv: torch.Tensor
    qkv_u: torch.Tensor | None
    log_sums: list[torch.Tensor]
    attended: torch.Tensor
    out_u: torch.Tensor | None
    middle: torch.Tensor
    gate_up: torch.Tensor
    gate_up_u: torch.Tensor | None
    down_u: torch.Tensor | None


class DecoderLayer:
    """x + attention(norm(x)), then + swiglu(norm(.))."""

    def __init__(
        self, qkv: LinearGroup, out: LinearGroup, gate_up: LinearGroup, down: LinearGroup,
        norms: tuple[torch.Tensor, torch.Tensor], eps: float, attention: Attention, ops: Ops,
    ) -> None:  # fmt: skip
        self.qkv, self.out, self.gate_up, self.down = qkv, out, gate_up, down
        self.attention_norm, self.mlp_norm = norms
        self.eps, self.attention, self.ops = eps, attention, ops

    def forward(
        self, x: torch.Tensor, batch: PackedBatch, rope: RopeTable
    ) -> tuple[torch.Tensor, LayerState]:
        """x (T, D) -> (T, D) and the state for `backward`; x itself is left as it is."""
        normed, _ = self.ops.rmsnorm(x, self.attention_norm, self.eps)
        qkv, qkv_u = self.qkv.forward(normed)
        self._rotate(qkv, batch, rope, undo=False)
        attended, log_sums = self.attention.forward(qkv, batch.groups)
        middle, out_u = self.out.forward(attended, residual=x)
        normed, _ = self.ops.rmsnorm(middle, self.mlp_norm, self.eps)
        gate_up, gate_up_u = self.gate_up.forward(normed)
        y, down_u = self.down.forward(self.ops.swiglu(gate_up), residual=middle)
        return y, LayerState(x, qkv, qkv_u, log_sums, attended, out_u, middle, gate_up, gate_up_u, down_u)

    def backward(
        self, grad: torch.Tensor, state: LayerState, batch: PackedBatch, rope: RopeTable, need_dx: bool
    ) -> torch.Tensor:
        """grad (T, D) for y becomes the gradient for x, in place; adapters' gradients are added to.

        Without `need_dx` (lowest layer) what is returned is not complete.
        """
        d_hidden = self.down.backward(grad, self.ops.swiglu(state.gate_up), state.down_u)
        assert d_hidden is not None
        d_gate_up = self.ops.swiglu_backward(d_hidden, state.gate_up)
        self._backward_norm(self.gate_up, d_gate_up, state.middle, state.gate_up_u, self.mlp_norm, grad, True)
        d_attended = self.out.backward(grad, state.attended, state.out_u)
        assert d_attended is not None
        d_qkv = self.attention.backward(d_attended, state.qkv, state.attended, state.log_sums, batch.groups)
        self._rotate(d_qkv, batch, rope, undo=True)
        self._backward_norm(self.qkv, d_qkv, state.x, state.qkv_u, self.attention_norm, grad, need_dx)
        return grad

    def _backward_norm(
        self, group: LinearGroup, dz: torch.Tensor, x: torch.Tensor, u: torch.Tensor | None,
        weight: torch.Tensor, into: torch.Tensor, need_dx: bool,
    ) -> None:  # fmt: skip
        """Back through `group(norm(x))`; the gradient for x is added to `into`."""
        normed, rstd = self.ops.rmsnorm(x, weight, self.eps)
        d_normed = group.backward(dz, normed, u, need_dx)
        if d_normed is not None:
            self.ops.rmsnorm_backward(d_normed, x, weight, rstd, into)

    def _rotate(self, qkv: torch.Tensor, batch: PackedBatch, rope: RopeTable, undo: bool) -> None:
        shape = self.attention.shape
        rotated = qkv[:, : shape.q_width + shape.kv_width]  # q and k; v is not rotated
        self.ops.rope(rotated, batch.positions, rope, shape.head_dim, undo)
