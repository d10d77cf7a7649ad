"""The loss in portions: what a row costs does not depend on which rows are computed with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from nomoat.formats.gguf_file import read_gguf
from nomoat.tune import loss as loss_module
from nomoat.tune.loss import HeadLoss
from nomoat.tune.ops import Ops
from nomoat.tune.unpack import Unpacker, packed_matrix
from nomoat.tune.weights import FrozenWeights

ROWS, WIDTH = 75, 256


@pytest.fixture
def head(ops: Ops, tiny_model: Callable[..., Path]) -> HeadLoss:
    file = read_gguf(tiny_model("llama", "Q8_0"))
    weights = FrozenWeights(Unpacker(None), torch.float32, keep=False)
    return HeadLoss(weights.group([packed_matrix(file, "token_embd.weight")]), ops)


def _rows() -> tuple[torch.Tensor, torch.Tensor]:
    hidden = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
    return hidden, torch.arange(ROWS) * 3


@pytest.mark.parametrize("portion", [1, 30 * 256 * 4, 64 * 2**20], ids=["16 rows", "30 rows", "all rows"])
def test_losses_and_gradient_are_torchs_whatever_the_portion(
    portion: int, head: HeadLoss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_module, "_CHUNK_BYTES", portion)
    hidden, targets = _rows()
    leaf = hidden.clone().requires_grad_()
    expected = F.cross_entropy(leaf @ head.lm_head.dense().T, targets, reduction="none")
    (expected.sum() * 0.125).backward()
    losses, gradient = head.losses_and_gradient(hidden, targets, 0.125)
    torch.testing.assert_close(losses, expected.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, leaf.grad, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(head.losses(hidden, targets), losses)


def test_nothing_supervised_costs_nothing(head: HeadLoss) -> None:
    losses, gradient = head.losses_and_gradient(torch.empty(0, WIDTH), torch.empty(0, dtype=torch.int64), 1.0)
    assert (losses.shape, gradient.shape) == ((0,), (0, WIDTH))
