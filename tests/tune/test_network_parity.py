"""The training network computes what llama.cpp serves, on the same file and tokens.

llama.cpp rounds activations on their way into a product: to 8 bits for quantised weights, to the weights' own
type for F16 and BF16. The trainer does not. So the two agree to the last bits for F32 only, and the table below
says how far they may be apart for the rest. A wrong rotation, scale or order of rows costs more than 1 nat.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import oracle
import pytest
import torch
from serving import LlamaCpp

from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.vocabulary import Vocabulary
from nomoat.tune.lora import AdapterParameters
from nomoat.tune.network import Network, adapter_modules
from nomoat.tune.ops import FusedOps, Ops, RopeTable
from nomoat.tune.packing import pack
from nomoat.tune.tokenise import Example


class Tolerance(NamedTuple):
    """Mean KL divergence in nats, and the largest change of log-probability of llama.cpp's top token."""

    divergence: float
    log_probability: float


# Measured on Zen 4 with a model of sharp attention (150 tokens, worst of llama and qwen2); about a third of each.
TOLERANCES = {
    "F32": Tolerance(1e-6, 1e-4),
    "F16": Tolerance(1e-5, 0.02),
    "BF16": Tolerance(4e-4, 0.15),
    "Q8_0": Tolerance(4e-3, 0.6),
    "Q4_0": Tolerance(4e-3, 0.6),
    "Q4_1": Tolerance(4e-3, 0.6),
    "Q5_0": Tolerance(4e-3, 0.6),
    "Q5_1": Tolerance(4e-3, 0.6),
    "Q4_K": Tolerance(8e-3, 0.8),
    "Q5_K": Tolerance(8e-3, 0.8),
    "Q6_K": Tolerance(8e-3, 0.8),
}
EXACT = Tolerance(0, 0)
BF16_ADDS = Tolerance(2e-3, 0.3)  # when the trainer itself computes in bf16
SMOLLM2 = Tolerance(1e-2, 0.6)  # Q4_1, 30 layers, real text
Shape = dict[str, int | bool]
SHAPES: list[tuple[str, Shape]] = [
    ("llama", {"tied": False}),
    ("qwen2", {"tied": False}),
    ("llama", {"kv_heads": 4}),
    ("qwen2", {"kv_heads": 4}),
    ("llama", {"head_dim": 96}),  # heads together wider than the hidden size
    ("llama", {"rope_factors": True}),  # Llama 3
]
TEXT = (
    "The boiler needs water when its gauge falls below one bar. Open the valve under the sink slowly, wait until "
    "the needle shows 1.5 bar, and close it again. If it falls within a week, call Mrs. Okafor."
)


def _network(path: Path, ops: Ops, dtype: torch.dtype) -> Network:
    file = read_gguf(path)
    parameters = AdapterParameters(adapter_modules(file, ["q_proj"]), 2, 4.0, dtype, 0)
    return Network(file, parameters, ops, dtype, 256, keep=True, recompute=False)


def _log_probabilities(network: Network, tokens: np.ndarray) -> torch.Tensor:
    example = Example(tokens.astype(np.int32), np.zeros(len(tokens), np.bool_), "", 0)
    return torch.log_softmax(network.logits(pack([example])), -1)


def _tokens(count: int = 150) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, count)


def _difference(theirs: np.ndarray, ours: torch.Tensor) -> Tolerance:
    expected = torch.log_softmax(torch.from_numpy(theirs), -1)
    top = expected.argmax(-1, keepdim=True)
    change = expected.gather(1, top) - ours.gather(1, top)
    divergence = (expected.exp() * (expected - ours)).sum(-1).mean()
    return Tolerance(float(divergence), float(change.abs().max()))


def _check(difference: Tolerance, most: Tolerance, plus: Tolerance = EXACT) -> None:
    assert difference.divergence <= most.divergence + plus.divergence
    assert difference.log_probability <= most.log_probability + plus.log_probability


@pytest.mark.parametrize("quantisation", TOLERANCES)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_logits_are_llama_cpps(
    architecture: str, quantisation: str, fused: FusedOps, tiny_model: Callable[..., Path]
) -> None:
    path, tokens = tiny_model(architecture, quantisation), _tokens()
    theirs = LlamaCpp(path)(tokens)
    for dtype, plus in ((torch.float32, EXACT), (torch.bfloat16, BF16_ADDS)):
        ours = _log_probabilities(_network(path, fused, dtype), tokens)
        _check(_difference(theirs, ours), TOLERANCES[quantisation], plus)


@pytest.mark.parametrize(("architecture", "shape"), SHAPES, ids=str)
def test_logits_are_llama_cpps_for_other_shapes(
    architecture: str, shape: Shape, ops: Ops, tiny_model: Callable[..., Path]
) -> None:
    path, tokens = tiny_model(architecture, "F32", **shape), _tokens()
    ours = _log_probabilities(_network(path, ops, torch.float32), tokens)
    _check(_difference(LlamaCpp(path)(tokens), ours), TOLERANCES["F32"])


def test_logits_of_the_embedded_model_are_llama_cpps(smollm2_path: Path, fused: FusedOps) -> None:
    with Vocabulary.open(smollm2_path) as vocabulary:
        tokens = np.array(vocabulary.encode(TEXT))
    theirs = LlamaCpp(smollm2_path)(tokens)
    for dtype, plus in ((torch.float32, EXACT), (torch.bfloat16, BF16_ADDS)):
        ours = _log_probabilities(_network(smollm2_path, fused, dtype), tokens)
        _check(_difference(theirs, ours), SMOLLM2, plus)


def test_a_wrong_rotation_would_be_noticed(fused: FusedOps, tiny_model: Callable[..., Path]) -> None:
    path, tokens = tiny_model("llama", "Q4_K"), _tokens()
    network = _network(path, fused, torch.float32)
    right = network._rope
    network._rope = RopeTable(right.cosines, right.sines, interleaved=not right.interleaved)
    difference = _difference(LlamaCpp(path)(tokens), _log_probabilities(network, tokens))
    assert difference.divergence > 50 * TOLERANCES["Q4_K"].divergence


@pytest.mark.parametrize("quantisation", ["F32", "Q4_0", "Q6_K"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_logits_are_transformers_on_the_dequantised_weights(
    architecture: str, quantisation: str, ops: Ops, tiny_model: Callable[..., Path]
) -> None:
    path, tokens = tiny_model(architecture, quantisation), _tokens()
    with torch.no_grad():
        theirs = oracle.transformers_model(path)(torch.from_numpy(tokens)[None]).logits[0]
    ours = _log_probabilities(_network(path, ops, torch.float32), tokens)
    torch.testing.assert_close(ours, torch.log_softmax(theirs, -1), atol=1e-4, rtol=0)
