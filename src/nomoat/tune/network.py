"""The training network: a GGUF model with adapters, its loss and the adapters' gradients.

Computes what llama.cpp computes on the same file and tokens (parity is tested for every architecture), on flat
packed tokens (T, D), in float32 or bfloat16.
"""

from __future__ import annotations

import numpy as np
import torch

from nomoat.formats.gguf_file import GGUFFile
from nomoat.tune.architecture import LINEARS, Architecture, read_architecture, rope_table
from nomoat.tune.attention import Attention
from nomoat.tune.layer import DecoderLayer, LayerState
from nomoat.tune.lora import AdapterParameters, LinearGroup, Member, Module
from nomoat.tune.loss import HeadLoss
from nomoat.tune.ops import FusedOps, Ops
from nomoat.tune.packing import PackedBatch
from nomoat.tune.unpack import Unpacker, packed_matrix
from nomoat.tune.weights import FrozenWeights

__all__ = ["Network", "adapter_modules"]

_GROUPS = (("attn_q", "attn_k", "attn_v"), ("attn_output",), ("ffn_gate", "ffn_up"), ("ffn_down",))


def adapter_modules(gguf: GGUFFile, target_modules: list[str]) -> list[Module]:
    """The linears to adapt, in file order, from PEFT names such as `q_proj`."""
    parts = [
        part for group in _GROUPS for part in group if part in {LINEARS[name] for name in target_modules}
    ]
    names = [f"blk.{i}.{part}.weight" for i in range(gguf.hyperparameter("block_count")) for part in parts]
    return [Module(name, *gguf.tensors[name].shape) for name in names]


class Network:
    """Frozen packed weights, adapters, and the two passes.

    `keep` holds the weights unpacked between uses; `recompute` keeps only each layer's input and runs its forward
    pass again in the backward pass. Both trade memory for time and change no result.
    """

    def __init__(
        self, gguf: GGUFFile, parameters: AdapterParameters, ops: Ops, dtype: torch.dtype,
        max_length: int, keep: bool, recompute: bool,
    ) -> None:  # fmt: skip
        self.gguf, self.parameters, self.ops, self.dtype, self.recompute = (
            gguf,
            parameters,
            ops,
            dtype,
            recompute,
        )
        self.architecture: Architecture = read_architecture(gguf)
        self._rope = rope_table(gguf, self.architecture, max_length)
        self._unpacker = Unpacker(ops.kernels if isinstance(ops, FusedOps) else None)
        self._weights = FrozenWeights(self._unpacker, dtype, keep)
        self._embeddings = packed_matrix(gguf, "token_embd.weight")
        self._attention = Attention(self.architecture.heads, ops)
        self._adapted = {module.name: module for module in parameters.modules}
        self.layers = [self._layer(i) for i in range(self.architecture.num_hidden_layers)]
        head_name = "token_embd.weight" if self.architecture.tied_embeddings else "output.weight"
        self._head = HeadLoss(self._weights.group([packed_matrix(gguf, head_name)]), ops)
        self._final_norm = self._vector("output_norm.weight")

    def losses(self, batch: PackedBatch) -> torch.Tensor:
        """Losses (S,) float32 in nats at the supervised rows, nothing kept."""
        return self._head.losses(self._final(self._hidden(batch)[batch.target_rows])[0], batch.targets)

    def logits(self, batch: PackedBatch) -> torch.Tensor:
        """Logits (T, V) float32 of every row; for parity tests."""
        return self._head.logits(self._final(self._hidden(batch))[0])

    def train(self, batch: PackedBatch, scale: float) -> torch.Tensor:
        """Losses (S,); the gradient of `scale * sum(losses)` is added to `parameters.gradients`."""
        x, kept = self._embed(batch), []
        for layer in self.layers:
            y, state = layer.forward(x, batch, self._rope)
            kept.append(x if self.recompute else state)
            x = y
        rows = x[batch.target_rows]
        hidden, rstd = self._final(rows)
        losses, d_hidden = self._head.losses_and_gradient(hidden, batch.targets, scale)
        d_rows = torch.zeros_like(rows)
        self.ops.rmsnorm_backward(d_hidden, rows, self._final_norm, rstd, d_rows)
        # Added, not copied: a shared prefix's last row may predict the first own token of several documents.
        grad = torch.zeros_like(x).index_add_(0, batch.target_rows, d_rows)
        self._backward(grad, kept, batch)
        return losses

    def without_adapters(self, off: bool) -> None:
        """Switch the adapters off (or on again): the base model's own losses."""
        for layer in self.layers:
            for group in (layer.qkv, layer.out, layer.gate_up, layer.down):
                group.enabled = not off

    def _backward(
        self, grad: torch.Tensor, kept: list[torch.Tensor | LayerState], batch: PackedBatch
    ) -> None:
        for index in reversed(range(len(self.layers))):
            layer, state = self.layers[index], kept.pop()
            if isinstance(state, torch.Tensor):
                state = layer.forward(state, batch, self._rope)[1]
            grad = layer.backward(grad, state, batch, self._rope, need_dx=index > 0)

    def _hidden(self, batch: PackedBatch) -> torch.Tensor:
        x = self._embed(batch)
        for layer in self.layers:
            x = layer.forward(x, batch, self._rope)[0]
        return x

    def _embed(self, batch: PackedBatch) -> torch.Tensor:
        return self._unpacker.take_rows(self._embeddings, batch.tokens.numpy(), self.dtype)

    def _final(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.ops.rmsnorm(x, self._final_norm, self.architecture.rms_norm_eps)

    def _layer(self, index: int) -> DecoderLayer:
        qkv, out, gate_up, down = (self._group(index, parts) for parts in _GROUPS)
        norms = (self._vector(f"blk.{index}.attn_norm.weight"), self._vector(f"blk.{index}.ffn_norm.weight"))
        eps = self.architecture.rms_norm_eps
        return DecoderLayer(qkv, out, gate_up, down, norms, eps, self._attention, self.ops)

    def _group(self, index: int, parts: tuple[str, ...]) -> LinearGroup:
        matrices = [packed_matrix(self.gguf, f"blk.{index}.{part}.weight") for part in parts]
        stops = np.cumsum([matrix.rows for matrix in matrices]).tolist()
        starts = [0, *stops[:-1]]
        members = [
            Member(self._adapted[matrix.name], start, stop)
            for matrix, start, stop in zip(matrices, starts, stops, strict=True)
            if matrix.name in self._adapted
        ]
        names = [f"blk.{index}.{part}.bias" for part in parts]
        bias = None
        if any(name in self.gguf.tensors for name in names):
            bias = torch.cat([self._bias(name, m.rows) for name, m in zip(names, matrices, strict=True)])
        return LinearGroup(self._weights.group(matrices), members, self.parameters, bias)

    def _bias(self, name: str, rows: int) -> torch.Tensor:
        found = self._vector(name) if name in self.gguf.tensors else torch.zeros(rows)
        return found.to(self.dtype)

    def _vector(self, name: str) -> torch.Tensor:
        """A one-dimensional tensor, float32."""
        matrix = packed_matrix(self.gguf, name)
        out = torch.empty(matrix.rows, matrix.columns, dtype=torch.float32)
        self._unpacker.unpack(matrix, out)
        return out.flatten()
