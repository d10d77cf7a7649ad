"""What can be trained is read from the header; what cannot is refused by name before any work is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nomoat.base.errors import BadFileError, InputError, NomoatError
from nomoat.formats.gguf_file import GGUFFile, TensorInfo, read_gguf
from nomoat.tune.architecture import read_architecture
from nomoat.tune.attention import HeadShape
from nomoat.tune.lora import AdapterParameters
from nomoat.tune.network import Network
from nomoat.tune.ops import EagerOps


@pytest.fixture
def llama(tiny_model: Callable[..., Path]) -> GGUFFile:
    return read_gguf(tiny_model("llama", "F32"))


def _with(file: GGUFFile, **figures: Any) -> GGUFFile:
    """`file` with other hyperparameters; `__` stands for a dot."""
    changed = {f"llama.{key.replace('__', '.')}": value for key, value in figures.items()}
    return replace(file, metadata=file.metadata | changed)


def _without(file: GGUFFile, name: str) -> GGUFFile:
    return replace(file, tensors={key: info for key, info in file.tensors.items() if key != name})


def _and_tensor(file: GGUFFile, name: str, *shape: int) -> GGUFFile:
    like = file.tensors["output_norm.weight"]
    added = TensorInfo(name, shape, like.ggml_type, like.offset, like.nbytes, int(np.prod(shape)))
    return replace(file, tensors=file.tensors | {name: added})


def test_figures_have_their_hugging_face_names(llama: GGUFFile) -> None:
    found = read_architecture(llama)
    assert (found.name, found.hidden_size, found.num_hidden_layers) == ("llama", 256, 2)
    assert (found.intermediate_size, found.vocab_size, found.context_length) == (512, 256, 512)
    assert found.heads == HeadShape(4, 2, 64)
    assert found.tied_embeddings


def test_the_embedded_model_can_be_trained(smollm2_path: Path) -> None:
    found = read_architecture(read_gguf(smollm2_path))
    assert found.heads == HeadShape(9, 3, 64)
    assert (found.hidden_size, found.num_hidden_layers) == (576, 30)


def test_another_architecture_is_refused_with_those_that_work(llama: GGUFFile) -> None:
    file = replace(llama, metadata=llama.metadata | {"general.architecture": "mamba"})
    with pytest.raises(InputError, match="mamba") as error:
        read_architecture(file)
    assert "llama or qwen2" in error.value.hint


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        ({"expert_count": 8}, "mixture of experts"),
        ({"rope__scaling__type": "yarn"}, "yarn"),
        ({"rope__scaling__factor": 4.0}, "linear rope scaling"),
        ({"rope__scale_linear": 2.0}, "linear rope scaling"),
        ({"attention__causal": False}, "causal"),
        ({"attention__head_count": [4, 2]}, "layers that differ in attention.head_count"),
    ],
)
def test_a_variant_that_computes_something_else_is_refused(
    figures: dict[str, Any], named: str, llama: GGUFFile
) -> None:
    with pytest.raises(InputError, match=named):
        read_architecture(_with(llama, **figures))


@pytest.mark.parametrize(
    "name", ["blk.0.attn_q_norm.weight", "blk.1.ffn_down.bias", "blk.0.ffn_gate.bias", "output.bias",
             "blk.0.attn_q.scale", "blk.0.ffn_gate_inp.weight", "rope_factors_long.weight"]
)  # fmt: skip
def test_a_tensor_that_the_network_would_leave_out_is_refused_by_name(name: str, llama: GGUFFile) -> None:
    with pytest.raises(InputError, match=name):
        read_architecture(_and_tensor(llama, name, 256))


@pytest.mark.parametrize("name", ["token_embd.weight", "output_norm.weight", "blk.1.ffn_up.weight"])
def test_a_missing_tensor_is_named(name: str, llama: GGUFFile) -> None:
    with pytest.raises(BadFileError, match=name):
        read_architecture(_without(llama, name))


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        ({"feed_forward_length": 500}, "blk.0.ffn_gate.weight"),
        ({"attention__head_count": 5}, "head_count_kv"),
        ({"attention__head_count": 0}, "attention.head_count"),
        ({"attention__key_length": 32}, "rope.dimension_count"),
        ({"rope__dimension_count": 63}, "rope.dimension_count"),
        ({"block_count": 2**40}, "blk.2."),
        ({"block_count": "two"}, "block_count"),
        ({"embedding_length": -1}, "embedding_length"),
    ],
)
def test_figures_that_do_not_fit_the_tensors_are_refused(
    figures: dict[str, Any], named: str, llama: GGUFFile
) -> None:
    with pytest.raises(BadFileError, match=named):
        read_architecture(_with(llama, **figures))


def test_a_header_without_a_figure_is_refused(llama: GGUFFile) -> None:
    metadata = {key: value for key, value in llama.metadata.items() if key != "llama.embedding_length"}
    with pytest.raises(NomoatError, match="embedding_length"):
        read_architecture(replace(llama, metadata=metadata))


def test_a_bias_of_one_of_three_is_not_forgotten(tiny_model: Callable[..., Path]) -> None:
    file = read_gguf(tiny_model("qwen2", "F32"))
    only_v = file
    for layer in range(2):
        for part in "qk":
            only_v = _without(only_v, f"blk.{layer}.attn_{part}.bias")
    parameters = AdapterParameters([], 1, 1.0, torch.float32, 0)
    groups = [
        Network(source, parameters, EagerOps(), torch.float32, 8, keep=False, recompute=False).layers[0].qkv
        for source in (file, only_v)
    ]
    both, one = (group.bias for group in groups)
    assert both is not None
    assert one is not None
    assert not one[: 256 + 128].any()
    assert torch.equal(one[256 + 128 :], both[256 + 128 :])
