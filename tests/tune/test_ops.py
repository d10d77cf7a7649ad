"""Fused operations against eager ones, and eager ones against torch's autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.tune.ops import EagerOps, FusedOps, Ops, RopeTable

DTYPES = [torch.float32, torch.bfloat16]
# Rows and widths around the widths of vectors (4, 8, 16, 32) and the number of threads.
SIZES = [(1, 1), (1, 17), (3, 8), (5, 33), (64, 576), (131, 65)]


class Tolerance(NamedTuple):
    """Largest error allowed between two ways to compute the same: absolute, and relative to the value."""

    absolute: float
    relative: float


# bf16 keeps 8 bits: two ways that differ in the last bit of float32 may round to neighbours, 2**-8 apart.
CLOSE = {torch.float32: Tolerance(2e-6, 2e-6), torch.bfloat16: Tolerance(1e-3, 2**-7)}


def _random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    tolerance = CLOSE[ours.dtype]
    torch.testing.assert_close(ours, theirs, atol=tolerance.absolute, rtol=tolerance.relative)


def _table(rotary: int, interleaved: bool, positions: int = 64) -> RopeTable:
    angles = torch.arange(positions)[:, None] * 10000.0 ** (-torch.arange(rotary // 2) / (rotary / 2))
    return RopeTable(angles.cos(), angles.sin(), interleaved)


# -- fused against eager -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), SIZES)
def test_fused_rmsnorm_equals_eager(rows: int, width: int, dtype: torch.dtype, fused: FusedOps) -> None:
    x, weight = _random(rows, width, dtype=dtype), _random(width, seed=1)
    (out, rstd), (expected, expected_rstd) = (ops.rmsnorm(x, weight, 1e-5) for ops in (fused, EagerOps()))
    _same(out, expected)
    _same(rstd, expected_rstd)
    grad, start = _random(rows, width, dtype=dtype, seed=2), _random(rows, width, dtype=dtype, seed=3)
    into, expected_into = start.clone(), start.clone()
    fused.rmsnorm_backward(grad, x, weight, rstd, into)
    EagerOps().rmsnorm_backward(grad, x, weight, expected_rstd, expected_into)
    if width > 1:  # of one element nothing is left but the rounding of two equal terms
        _same(into, expected_into)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize(("heads", "head_dim", "rotary"), [(1, 2, 2), (3, 10, 6), (5, 64, 64), (2, 34, 34)])
def test_fused_rope_equals_eager(
    heads: int, head_dim: int, rotary: int, interleaved: bool, dtype: torch.dtype, fused: FusedOps
) -> None:
    rows, table = 37, _table(rotary, interleaved)
    positions = torch.arange(rows, dtype=torch.int32).flip(0)
    wide = _random(rows, heads * head_dim + 7, dtype=dtype)  # rows are strided, as q and k are within qkv
    ours, theirs = wide.clone(), wide.clone()
    for undo in (False, True):
        fused.rope(ours[:, : heads * head_dim], positions, table, head_dim, undo)
        EagerOps().rope(theirs[:, : heads * head_dim], positions, table, head_dim, undo)
        _same(ours, theirs)
    assert torch.equal(ours[:, heads * head_dim :], wide[:, heads * head_dim :])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), SIZES)
def test_fused_swiglu_equals_eager(rows: int, width: int, dtype: torch.dtype, fused: FusedOps) -> None:
    gate_up, grad = _random(rows, 2 * width, dtype=dtype) * 4, _random(rows, width, dtype=dtype, seed=1)
    _same(fused.swiglu(gate_up), EagerOps().swiglu(gate_up))
    _same(fused.swiglu_backward(grad, gate_up), EagerOps().swiglu_backward(grad, gate_up))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("matrices", "heads", "queries", "first"),
                         [(1, 1, 1, 0), (2, 3, 7, 0), (3, 2, 5, 128), (1, 4, 128, 33)])  # fmt: skip
def test_fused_causal_softmax_equals_eager(
    matrices: int, heads: int, queries: int, first: int, dtype: torch.dtype, fused: FusedOps
) -> None:
    shape = (matrices, heads * queries, first + queries)
    raw, grad = _random(*shape, dtype=dtype) * 8, _random(*shape, dtype=dtype, seed=1)
    ours, theirs = raw.clone(), raw.clone()
    log_sums = fused.causal_softmax(ours, queries, first, 0.125)
    expected = EagerOps().causal_softmax(theirs, queries, first, 0.125)
    _same(ours, theirs)
    _same(log_sums, expected)
    delta = _random(*shape[:2], seed=2)
    ours, theirs, d_ours, d_theirs = raw.clone(), raw.clone(), grad.clone(), grad.clone()
    fused.causal_softmax_backward(ours, d_ours, expected, delta, queries, first, 0.125)
    EagerOps().causal_softmax_backward(theirs, d_theirs, expected, delta, queries, first, 0.125)
    _same(ours, theirs)
    _same(d_ours, d_theirs)


@pytest.mark.parametrize("scale", [0.0, 0.25])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 2), (3, 17), (37, 1001)])
def test_fused_cross_entropy_equals_eager(
    rows: int, width: int, dtype: torch.dtype, scale: float, fused: FusedOps
) -> None:
    logits, targets = _random(rows, width, dtype=dtype) * 5, torch.arange(rows).remainder(width)
    ours, theirs = logits.clone(), logits.clone()
    _same(fused.cross_entropy(ours, targets, scale), EagerOps().cross_entropy(theirs, targets, scale))
    _same(ours, theirs)
    assert torch.equal(ours, logits) == (scale == 0.0), "logits are kept where no gradient is asked for"


@settings(max_examples=30)
@given(
    st.integers(1, 9), st.integers(1, 70), st.floats(0.01, 80), st.sampled_from(DTYPES), st.integers(0, 99)
)
def test_fused_equals_eager_for_any_size_and_spread(
    fused: FusedOps, rows: int, width: int, spread: float, dtype: torch.dtype, seed: int
) -> None:
    x = (_random(rows, 2 * width, seed=seed) * spread).to(dtype)
    _same(fused.swiglu(x), EagerOps().swiglu(x))
    _same(
        fused.rmsnorm(x, torch.ones(2 * width), 1e-5)[0],
        EagerOps().rmsnorm(x, torch.ones(2 * width), 1e-5)[0],
    )
    targets = torch.zeros(rows, dtype=torch.int64)
    losses = fused.cross_entropy(x.clone(), targets, 0.0), EagerOps().cross_entropy(x.clone(), targets, 0.0)
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)


def test_a_tensor_with_gaps_is_refused_rather_than_misread(fused: FusedOps) -> None:
    with pytest.raises(ValueError, match="contiguous"):
        fused.swiglu_backward(_random(3, 8)[:, :4], _random(3, 8))


# -- eager against autograd ----------------------------------------------------------------------


def _gradient(
    function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, grad: torch.Tensor
) -> torch.Tensor:
    leaf = x.clone().requires_grad_()
    (result,) = torch.autograd.grad(function(leaf), leaf, grad)
    return result


def test_eager_rmsnorm_is_the_gradient_of_torchs(ops: Ops) -> None:
    x, weight, grad, start = (
        _random(*shape, seed=i) for i, shape in enumerate([(9, 65), (65,), (9, 65), (9, 65)])
    )

    def reference(leaf: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(leaf, (65,), weight, 1e-5)

    out, rstd = ops.rmsnorm(x, weight, 1e-5)
    _same(out, reference(x))
    into = start.clone()
    ops.rmsnorm_backward(grad, x, weight, rstd, into)
    _same(into, start + _gradient(reference, x, grad))


def test_eager_swiglu_is_the_gradient_of_torchs(ops: Ops) -> None:
    gate_up, grad = _random(9, 66) * 3, _random(9, 33, seed=1)

    def reference(leaf: torch.Tensor) -> torch.Tensor:
        gate, up = leaf.chunk(2, dim=1)
        return F.silu(gate) * up

    _same(ops.swiglu(gate_up), reference(gate_up))
    _same(ops.swiglu_backward(grad, gate_up), _gradient(reference, gate_up, grad))


def test_softmax_and_its_gradient_are_torchs(ops: Ops) -> None:
    queries, first, keys, scale = 5, 3, 8, 0.3
    raw, grad = _random(2, 2 * queries, keys) * 4, _random(2, 2 * queries, keys, seed=1)
    hidden = torch.arange(keys)[None, :] > torch.arange(2 * queries).remainder(queries)[:, None] + first

    def reference(leaf: torch.Tensor) -> torch.Tensor:
        return torch.softmax((leaf * scale).masked_fill(hidden, -torch.inf), -1)

    probabilities, d_scores, again = raw.clone(), grad.clone(), raw.clone()
    log_sums = ops.causal_softmax(probabilities, queries, first, scale)
    _same(probabilities, reference(raw))
    delta = (probabilities * grad).sum(-1)
    ops.causal_softmax_backward(again, d_scores, log_sums, delta, queries, first, scale)
    _same(again, probabilities)
    _same(d_scores, _gradient(reference, raw, grad))


def test_cross_entropy_and_its_gradient_are_torchs(ops: Ops) -> None:
    logits, targets = _random(11, 37) * 4, torch.arange(11) * 3
    expected = F.cross_entropy(logits, targets, reduction="none")
    gradient = _gradient(
        lambda leaf: F.cross_entropy(leaf, targets, reduction="sum"), logits, torch.tensor(0.5)
    )
    losses = ops.cross_entropy(logits, targets, 0.5)
    _same(losses, expected)
    _same(logits, gradient)


# -- what must hold in any case ------------------------------------------------------------------


@pytest.mark.parametrize("interleaved", [True, False])
def test_a_rotation_undone_is_where_it_was(interleaved: bool, ops: Ops) -> None:
    x, positions = _random(20, 3 * 16), torch.arange(20, dtype=torch.int32)
    turned = x.clone()
    ops.rope(turned, positions, _table(16, interleaved), 16, undo=False)
    assert not torch.allclose(turned[1:], x[1:])
    assert torch.equal(turned[0], x[0]), "position 0 is not turned"
    ops.rope(turned, positions, _table(16, interleaved), 16, undo=True)
    _same(turned, x)


def test_a_probability_that_is_certain_costs_nothing_and_one_that_is_hopeless_stays_finite(ops: Ops) -> None:
    logits = torch.tensor([[200.0, 0.0], [-3e4, 3e4]])
    losses = ops.cross_entropy(logits, torch.tensor([0, 0]), 1.0)
    assert losses.tolist() == pytest.approx([0.0, 6e4])
    torch.testing.assert_close(logits, torch.tensor([[0.0, 0.0], [-1.0, 1.0]]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none_are_not_hidden(value: float, ops: Ops) -> None:
    # A run that diverges must be seen: none of the operations may turn NaN or infinity into a plain number.
    logits = torch.full((1, 40), 0.5)
    logits[0, 7] = value
    assert not ops.cross_entropy(logits.clone(), torch.tensor([3]), 0.0).isfinite().any()
    scores = logits[None].clone()
    assert not ops.causal_softmax(scores, 1, 39, 1.0).isfinite().any()
    assert not ops.rmsnorm(torch.full((1, 9), value), torch.ones(9), 1e-5)[0].isfinite().all()
    assert not ops.swiglu(torch.tensor([[math.nan, 1.0]])).isfinite().any()
