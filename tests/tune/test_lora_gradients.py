"""Adapters' gradients against PEFT, and every way to save memory against the way that saves none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import oracle
import pytest
import torch
from peft_twin import PeftTwin

from nomoat.formats.gguf_file import read_gguf
from nomoat.tune.architecture import LINEARS
from nomoat.tune.lora import AdapterParameters
from nomoat.tune.network import Network, adapter_modules
from nomoat.tune.ops import Ops
from nomoat.tune.packing import pack
from nomoat.tune.tokenise import Example

MOST_ERROR = 1e-4  # of the Frobenius norm, for each A and each B; measured: below 1e-5
# More than one block of queries, groups that need padding, a document of two tokens.
LENGTHS = (5, 37, 39, 41, 260, 2)
TARGETS = [
    tuple(LINEARS),
    ("q_proj", "v_proj"),
    ("k_proj", "o_proj", "up_proj"),
    ("down_proj",),
    ("gate_proj",),
]


def _examples(vocabulary: int = 256, lengths: tuple[int, ...] = LENGTHS) -> list[Example]:
    return [oracle.example(n, seed, vocabulary, supervised=False) for seed, n in enumerate(sorted(lengths))]


def _network(
    path: Path, ops: Ops, targets: tuple[str, ...] = tuple(LINEARS), *,
    dtype: torch.dtype = torch.float32, keep: bool = True, recompute: bool = False,
) -> Network:  # fmt: skip
    """A network whose B are not zero: with zeros, half of the gradients would be."""
    file = read_gguf(path)
    parameters = AdapterParameters(adapter_modules(file, list(targets)), 8, 12.0, dtype, 0)
    generator = torch.Generator().manual_seed(1)
    for module in parameters.modules:
        parameters.b(module, parameters.values).normal_(0, 0.02, generator=generator)
    parameters.refresh()
    return Network(file, parameters, ops, dtype, 512, keep, recompute)


def _compare(path: Path, targets: tuple[str, ...], ops: Ops, examples: list[Example]) -> None:
    network = _network(path, ops, targets, keep=False)
    twin = PeftTwin(path, targets, network.parameters)
    scale = 1 / sum(int(example.supervised[1:].sum()) for example in examples)
    losses = network.train(pack(examples), scale)
    with torch.no_grad():
        torch.testing.assert_close(losses, twin.losses(examples), atol=2e-4, rtol=1e-5)
    theirs, ours = twin.gradients(examples, scale), twin.trained(network.parameters.gradients)
    errors = {name: float((ours[name] - theirs[name]).norm() / theirs[name].norm()) for name in theirs}
    assert len(errors) == 2 * len(network.parameters.modules)
    assert max(errors.values()) <= MOST_ERROR, {n: e for n, e in errors.items() if e > MOST_ERROR}


@pytest.mark.parametrize("targets", TARGETS, ids="+".join)
@pytest.mark.parametrize(("architecture", "quantisation"), [("llama", "Q4_0"), ("qwen2", "Q8_0")])
def test_gradients_are_pefts(
    architecture: str, quantisation: str, targets: tuple[str, ...], ops: Ops, tiny_model: Callable[..., Path]
) -> None:
    _compare(tiny_model(architecture, quantisation), targets, ops, _examples())


@pytest.mark.parametrize("shape", [{"tied": False}, {"kv_heads": 4}], ids=str)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_gradients_are_pefts_for_other_shapes(
    architecture: str, shape: dict[str, int | bool], ops: Ops, tiny_model: Callable[..., Path]
) -> None:
    _compare(tiny_model(architecture, "Q4_K", **shape), tuple(LINEARS), ops, _examples())


def test_gradients_are_pefts_on_the_embedded_model(smollm2_path: Path, fused: Ops) -> None:
    _compare(smollm2_path, tuple(LINEARS), fused, _examples(49152, (7, 30, 33, 60)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_saving_memory_changes_no_bit(
    architecture: str, dtype: torch.dtype, ops: Ops, tiny_model: Callable[..., Path]
) -> None:
    path, batch = tiny_model(architecture, "Q4_K"), pack(_examples())
    results = []
    for keep, recompute in product((True, False), repeat=2):
        network = _network(path, ops, dtype=dtype, keep=keep, recompute=recompute)
        results.append((network.train(batch, 0.01), network.parameters.gradients))
    for losses, gradients in results[1:]:
        assert torch.equal(losses, results[0][0])
        assert torch.equal(gradients, results[0][1])


def test_bf16_gradients_point_where_those_of_float32_do(ops: Ops, tiny_model: Callable[..., Path]) -> None:
    path, batch, found = tiny_model("llama", "Q8_0"), pack(_examples()), []
    for dtype in (torch.float32, torch.bfloat16):
        network = _network(path, ops, dtype=dtype)
        network.train(batch, 0.01)
        found.append(network.parameters.gradients)
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.99


def test_gradients_of_several_micro_batches_add_up(fused: Ops, tiny_model: Callable[..., Path]) -> None:
    path, examples = tiny_model("qwen2", "Q8_0"), _examples()
    whole, parts = _network(path, fused), _network(path, fused)
    whole.train(pack(examples), 0.01)
    for part in (examples[:3], examples[3:]):
        parts.train(pack(part), 0.01)
    torch.testing.assert_close(parts.parameters.gradients, whole.parameters.gradients, rtol=1e-3, atol=1e-5)


def test_a_fresh_adapter_changes_nothing_and_only_b_has_a_gradient(
    ops: Ops, tiny_model: Callable[..., Path]
) -> None:
    file, batch = read_gguf(tiny_model("llama", "Q8_0")), pack(_examples())
    parameters = AdapterParameters(adapter_modules(file, list(LINEARS)), 4, 8.0, torch.float32, 0)
    network = Network(file, parameters, ops, torch.float32, 512, keep=True, recompute=False)
    with_adapter = network.train(batch, 1.0)
    network.without_adapters(True)
    torch.testing.assert_close(network.losses(batch), with_adapter)
    for module in parameters.modules:
        assert not parameters.a(module, parameters.gradients).any()
        assert parameters.b(module, parameters.gradients).any()
        assert parameters.a(module, parameters.values).abs().max() <= module.in_features**-0.5


def test_an_adapter_switched_off_leaves_the_base_model(ops: Ops, tiny_model: Callable[..., Path]) -> None:
    path, batch = tiny_model("qwen2", "Q8_0"), pack(_examples())
    network, bare = _network(path, ops), _network(path, ops)
    bare.parameters.values.zero_()
    network.without_adapters(True)
    off = network.losses(batch)
    assert torch.equal(off, bare.losses(batch))
    network.without_adapters(False)
    assert not torch.allclose(network.losses(batch), off)
