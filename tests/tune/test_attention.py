"""Attention over packed documents against torch's own, one document at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.tune.attention import Attention, HeadShape
from nomoat.tune.ops import EagerOps, Ops
from nomoat.tune.packing import PackedBatch, pack
from nomoat.tune.tokenise import Example

SHAPES = {"MHA": HeadShape(4, 4, 16), "GQA": HeadShape(6, 2, 16), "MQA, odd head": HeadShape(3, 1, 10)}
LENGTHS = {
    "one document": [9],
    "equal lengths": [40, 40, 40],
    "like lengths, padded in one group": [100, 81, 90, 97],
    "very different lengths": [1, 300, 2, 17, 129, 128, 2, 290],
}
# Relative error (Frobenius): float32 differs by the order of sums, bf16 rounds scores and probabilities to 8 bits.
MOST_ERROR = {torch.float32: 2e-6, torch.bfloat16: 1e-2}


class Case(NamedTuple):
    """A packed batch with random q, k and v rows and a gradient for the output."""

    batch: PackedBatch
    lengths: list[int]
    qkv: torch.Tensor
    grad: torch.Tensor


def _case(lengths: list[int], shape: HeadShape, dtype: torch.dtype = torch.float32) -> Case:
    # Every document is of one token of its own, so that none share a beginning.
    examples = [
        Example(np.full(n, i, np.int32), np.ones(n, np.bool_), str(n), n) for i, n in enumerate(lengths)
    ]
    generator = torch.Generator().manual_seed(len(lengths))
    width = shape.q_width + 2 * shape.kv_width
    qkv = torch.randn(sum(lengths), width, generator=generator).to(dtype)
    grad = torch.randn(sum(lengths), shape.q_width, generator=generator).to(dtype)
    return Case(pack(examples), sorted(lengths), qkv, grad)


def _torchs(case: Case, shape: HeadShape) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and gradient of qkv, document by document, float32."""
    leaf = case.qkv.float().requires_grad_()
    outs = []
    for rows in leaf.split(case.lengths):
        parts = rows.split([shape.q_width, shape.kv_width, shape.kv_width], dim=1)
        q, k, v = (part.unflatten(1, (-1, shape.head_dim)).transpose(0, 1)[None] for part in parts)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        outs.append(attended[0].transpose(0, 1).flatten(1))
    out = torch.cat(outs)
    (gradient,) = torch.autograd.grad(out, leaf, case.grad.float())
    return out.detach(), gradient


def _ours(case: Case, shape: HeadShape, ops: Ops) -> tuple[torch.Tensor, torch.Tensor]:
    attention = Attention(shape, ops)
    out, log_sums = attention.forward(case.qkv, case.batch.groups)
    return out, attention.backward(case.grad, case.qkv, out, log_sums, case.batch.groups)


def _error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.float() - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("dtype", MOST_ERROR)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_are_torchs_of_each_document_alone(
    shape: HeadShape, lengths: list[int], dtype: torch.dtype, ops: Ops
) -> None:
    case = _case(lengths, shape, dtype)
    (out, gradient), (expected, expected_gradient) = _ours(case, shape, ops), _torchs(case, shape)
    assert _error(out, expected) < MOST_ERROR[dtype]
    assert _error(gradient, expected_gradient) < MOST_ERROR[dtype]


@settings(max_examples=15)
@given(st.lists(st.integers(1, 150), min_size=1, max_size=9), st.sampled_from(list(SHAPES.values())))
def test_any_mix_of_lengths_is_torchs(lengths: list[int], shape: HeadShape) -> None:
    case = _case(lengths, shape)
    (out, gradient), (expected, expected_gradient) = _ours(case, shape, EagerOps()), _torchs(case, shape)
    assert _error(out, expected) < MOST_ERROR[torch.float32]
    assert _error(gradient, expected_gradient) < 10 * MOST_ERROR[torch.float32]


def test_a_document_of_one_token_attends_to_itself(ops: Ops) -> None:
    shape = SHAPES["GQA"]
    case = _case([1], shape)
    out, _ = Attention(shape, ops).forward(case.qkv, case.batch.groups)
    v = case.qkv[:, -shape.kv_width :].unflatten(1, (2, 1, 16)).expand(1, 2, 3, 16)
    torch.testing.assert_close(out, v.flatten(1))


def test_nothing_of_one_document_reaches_another(ops: Ops) -> None:
    shape, lengths = SHAPES["GQA"], [100, 81, 90, 97]
    case = _case(lengths, shape)
    out, gradient = _ours(case, shape, ops)
    rows = slice(81, 81 + 90)  # the second shortest; all four share one padded group
    case.qkv[rows] *= -3
    case.grad[rows] *= 5
    changed_out, changed_gradient = _ours(case, shape, ops)
    others = [i for i in range(sum(lengths)) if not rows.start <= i < rows.stop]
    assert torch.equal(changed_out[others], out[others])
    assert torch.equal(changed_gradient[others], gradient[others])
    assert not torch.equal(changed_out[rows], out[rows])
