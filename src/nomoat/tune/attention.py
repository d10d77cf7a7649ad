"""Causal attention within documents, forward and backward, as blocked batched GEMMs.

torch's flash kernel reaches about a tenth of a CPU's GEMM rate; the same sums as `bmm` over blocks of queries
reach most of it. A prefix that documents share is in front of every document's own keys, which shifts the diagonal.
Scores are computed again in the backward pass (Dao et al. 2022, arXiv:2205.14135), so memory stays linear in T.
Query heads that share a key/value head (GQA) are stacked as rows of one matrix: nothing is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from nomoat.tune.ops import Ops
from nomoat.tune.packing import AttentionGroup

__all__ = ["Attention", "HeadShape"]

_BLOCK = 128  # queries at a time: above the diagonal at most this many keys are computed in vain


@dataclass(frozen=True)
class HeadShape:
    """`num_heads` query heads in `num_kv_heads` groups, each `head_dim` wide."""

    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def q_width(self) -> int:
        """Columns of q in a qkv row."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Columns of k, and of v."""
        return self.num_kv_heads * self.head_dim


class Attention:
    """softmax(q k^T / sqrt(head_dim)) v over the documents of a packed batch."""

    def __init__(self, shape: HeadShape, ops: Ops) -> None:
        self.shape, self.ops = shape, ops
        self._scale = shape.head_dim**-0.5

    def forward(
        self, qkv: torch.Tensor, groups: tuple[AttentionGroup, ...]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """qkv (T, q_width + 2 kv_width), rotated -> out (T, q_width), log-sums per group for the backward pass."""
        out = qkv.new_empty(qkv.shape[0], self.shape.q_width)
        return out, [self._forward_group(qkv, group, out) for group in groups]

    def backward(
        self, grad_out: torch.Tensor, qkv: torch.Tensor, out: torch.Tensor,
        log_sums: list[torch.Tensor], groups: tuple[AttentionGroup, ...],
    ) -> torch.Tensor:  # fmt: skip
        """Gradient for qkv, same shape."""
        grad_qkv = torch.empty_like(qkv)
        for group, sums in zip(groups, log_sums, strict=True):
            self._backward_group(grad_out, qkv, out, sums, group, grad_qkv)
        return grad_qkv

    def _forward_group(self, qkv: torch.Tensor, group: AttentionGroup, out: torch.Tensor) -> torch.Tensor:
        q, k, v = self._split(qkv, group)
        shared = group.prefix_length
        result, sums = torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
        for start, stop in _blocks(group.length):
            scores = torch.bmm(self._rows(q, start, stop), k[:, : shared + stop].transpose(1, 2))
            block_sums = self.ops.causal_softmax(scores, stop - start, shared + start, self._scale)
            sums[:, :, start:stop] = block_sums.view(len(q), -1, stop - start)
            result[:, :, start:stop] = torch.bmm(scores, v[:, : shared + stop]).view(
                len(q), -1, stop - start, q.shape[3]
            )
        _put(self._merge(result, group), group, out)
        return sums

    def _backward_group(
        self, grad_out: torch.Tensor, qkv: torch.Tensor, out: torch.Tensor,
        sums: torch.Tensor, group: AttentionGroup, grad_qkv: torch.Tensor,
    ) -> None:  # fmt: skip
        q, k, v = self._split(qkv, group)
        shared = group.prefix_length
        d_out = self._heads(_take(grad_out, group, zero_padding=True), group)
        delta = (d_out.float() * self._heads(_take(out, group), group).float()).sum(-1)
        d_q = torch.empty_like(q)
        d_k, d_v = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)
        for start, stop in _blocks(group.length):
            queries, d_rows = self._rows(q, start, stop), self._rows(d_out, start, stop)
            seen = shared + stop
            scores = torch.bmm(queries, k[:, :seen].transpose(1, 2))
            d_scores = torch.bmm(d_rows, v[:, :seen].transpose(1, 2))
            # Contiguous because the kernels read by address; a reshape alone may leave a strided view.
            block_sums = sums[:, :, start:stop].reshape(len(q), -1).contiguous()
            block_delta = delta[:, :, start:stop].reshape(len(q), -1).contiguous()
            self.ops.causal_softmax_backward(
                scores, d_scores, block_sums, block_delta, stop - start, shared + start, self._scale
            )
            d_v[:, :seen] += torch.bmm(scores.transpose(1, 2), d_rows)
            d_k[:, :seen] += torch.bmm(d_scores.transpose(1, 2), queries)
            d_q[:, :, start:stop] = torch.bmm(d_scores, k[:, :seen]).view(
                len(q), -1, stop - start, q.shape[3]
            )
        own = [self._merge(d_q, group), *(self._merge_kv(d[:, shared:], group) for d in (d_k, d_v))]
        _put(torch.cat([part.to(qkv.dtype) for part in own], dim=1), group, grad_qkv)
        if shared:  # the prefix's own group, which stands before this one, has written its rows already
            ours = [
                self._merge_kv(d[:, :shared], group).unflatten(0, (-1, shared)).sum(0) for d in (d_k, d_v)
            ]
            prefix = grad_qkv[group.prefix_start : group.prefix_start + shared, self.shape.q_width :]
            prefix += torch.cat(ours, dim=1).to(qkv.dtype)

    def _split(
        self, qkv: torch.Tensor, group: AttentionGroup
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q (G * KV, R, L, Dh) of the group, R query heads for each KV head; k and v (G * KV, prefix + L, Dh)."""
        widths = [self.shape.q_width, self.shape.kv_width, self.shape.kv_width]
        q, k, v = _take(qkv, group).split(widths, dim=1)
        k, v = self._kv(k, group.documents), self._kv(v, group.documents)
        if group.prefix_length:
            shared = qkv[group.prefix_start : group.prefix_start + group.prefix_length]
            _, shared_k, shared_v = shared.split(widths, dim=1)
            k, v = self._behind(shared_k, k, group), self._behind(shared_v, v, group)
        return self._heads(q, group), k, v

    def _behind(self, shared: torch.Tensor, own: torch.Tensor, group: AttentionGroup) -> torch.Tensor:
        """Rows (P, kv_width) of the prefix in front of every document's own (G * KV, L, Dh)."""
        return torch.cat([self._kv(shared, 1).repeat(group.documents, 1, 1), own], dim=1)

    def _heads(self, rows: torch.Tensor, group: AttentionGroup) -> torch.Tensor:
        kv, dh = self.shape.num_kv_heads, self.shape.head_dim
        heads = rows.unflatten(0, (group.documents, group.length)).unflatten(2, (kv, -1, dh))
        return heads.permute(0, 2, 3, 1, 4).flatten(0, 1).contiguous()

    def _kv(self, rows: torch.Tensor, documents: int) -> torch.Tensor:
        heads = rows.unflatten(0, (documents, -1)).unflatten(2, (-1, self.shape.head_dim))
        return heads.transpose(1, 2).flatten(0, 1).contiguous()

    def _merge(self, heads: torch.Tensor, group: AttentionGroup) -> torch.Tensor:
        """(G * KV, R, L, Dh) -> (G * L, q_width)."""
        return heads.unflatten(0, (group.documents, -1)).permute(0, 3, 1, 2, 4).flatten(2).flatten(0, 1)

    def _merge_kv(self, heads: torch.Tensor, group: AttentionGroup) -> torch.Tensor:
        return heads.unflatten(0, (group.documents, -1)).transpose(1, 2).flatten(2).flatten(0, 1)

    @staticmethod
    def _rows(heads: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Queries start:stop of every head as rows: (M, R * (stop - start), Dh)."""
        return heads[:, :, start:stop].flatten(1, 2)


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + _BLOCK, length)) for start in range(0, length, _BLOCK))


def _take(x: torch.Tensor, group: AttentionGroup, zero_padding: bool = False) -> torch.Tensor:
    """The group's rows (documents * length, width); a view where the documents need no gathering."""
    if group.rows is None:
        return x[group.start : group.start + group.documents * group.length]
    taken = x[group.rows]
    if zero_padding and group.real is not None:
        taken[~group.real] = 0
    return taken


def _put(rows: torch.Tensor, group: AttentionGroup, into: torch.Tensor) -> None:
    """Write the group's real rows back to their places."""
    if group.rows is None or group.real is None:
        into[group.start : group.start + group.documents * group.length] = rows
    else:
        into[group.rows[group.real]] = rows[group.real]
