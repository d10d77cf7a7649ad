"""What the trainer must know of a GGUF's architecture, read from its header; what it cannot train is refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nomoat.base.errors import BadFileError, InputError
from nomoat.formats.gguf_file import GGUFFile
from nomoat.tune.attention import HeadShape
from nomoat.tune.ops import RopeTable

__all__ = ["LINEARS", "SUPPORTED", "Architecture", "read_architecture", "rope_table"]

SUPPORTED = ("llama", "qwen2")

# PEFT's name of a linear -> its GGUF tensor within a block; also the order of `--target-modules`
LINEARS = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
}  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """Hyperparameters under their Hugging Face names."""

    name: str
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    vocab_size: int
    heads: HeadShape
    rms_norm_eps: float
    rope_theta: float
    rotary_dim: int
    context_length: int
    tied_embeddings: bool


def read_architecture(gguf: GGUFFile) -> Architecture:
    """Read the header of a supported model.

    Raises `InputError` for an architecture (or a variant of one) that cannot be trained, `BadFileError` for a
    header whose figures do not fit the tensors.
    """
    name = gguf.architecture
    if name not in SUPPORTED:
        raise InputError(
            f"{gguf.path}: architecture {name!r} cannot be trained yet",
            f"choose a base of architecture {' or '.join(SUPPORTED)}; `nomoat run` serves this one",
        )
    _refuse_variants(gguf)
    hidden_size, num_heads = (
        gguf.hyperparameter("embedding_length"),
        gguf.hyperparameter("attention.head_count"),
    )
    head_dim = gguf.hyperparameter("attention.key_length", hidden_size // num_heads)
    kv_heads = gguf.hyperparameter("attention.head_count_kv", num_heads)
    architecture = Architecture(
        name=name,
        hidden_size=hidden_size,
        num_hidden_layers=gguf.hyperparameter("block_count"),
        intermediate_size=gguf.hyperparameter("feed_forward_length"),
        vocab_size=_shape(gguf, "token_embd.weight")[1],
        heads=HeadShape(num_heads, kv_heads, head_dim),
        rms_norm_eps=gguf.hyperparameter("attention.layer_norm_rms_epsilon"),
        rope_theta=gguf.hyperparameter("rope.freq_base", 10000.0),
        rotary_dim=gguf.hyperparameter("rope.dimension_count", head_dim),
        context_length=gguf.hyperparameter("context_length"),
        tied_embeddings="output.weight" not in gguf.tensors,
    )
    _check_shapes(gguf, architecture)
    return architecture


def rope_table(gguf: GGUFFile, architecture: Architecture, positions: int) -> RopeTable:
    """Cosines and sines for `positions` positions; Llama 3's `rope_freqs.weight` divides the frequencies."""
    half = architecture.rotary_dim // 2
    frequencies = architecture.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
    if "rope_freqs.weight" in gguf.tensors:
        frequencies = frequencies / gguf.raw("rope_freqs.weight").view(np.float32)[:half]
    angles = np.arange(positions, dtype=np.float64)[:, None] * frequencies[None, :]
    cosines, sines = (torch.from_numpy(f(angles).astype(np.float32)) for f in (np.cos, np.sin))
    return RopeTable(cosines, sines, interleaved=architecture.name == "llama")


def _refuse_variants(gguf: GGUFFile) -> None:
    """Layers that this network does not have must not be trained past in silence."""
    arch = gguf.architecture
    scaling = gguf.metadata.get(f"{arch}.rope.scaling.type", "none")
    unusual = [
        (gguf.metadata.get(f"{arch}.expert_count", 0) > 0, "mixture of experts"),
        (scaling != "none", f"rope scaling {scaling!r}"),
        (any(name.endswith((".attn_q_norm.weight", ".attn_output.bias", ".ffn_up.bias")) for name in gguf.tensors),
         "tensors that this architecture usually lacks"),
    ]  # fmt: skip
    for present, what in unusual:
        if present:
            raise InputError(f"{gguf.path}: {what} cannot be trained yet", "choose another base model")


def _shape(gguf: GGUFFile, name: str) -> tuple[int, ...]:
    if name not in gguf.tensors:
        raise BadFileError(gguf.path, f"tensor {name!r}", "is missing", "use a complete model")
    return gguf.tensors[name].shape


def _check_shapes(gguf: GGUFFile, a: Architecture) -> None:
    expected = {
        "attn_q": (a.hidden_size, a.heads.q_width), "attn_k": (a.hidden_size, a.heads.kv_width),
        "attn_v": (a.hidden_size, a.heads.kv_width), "attn_output": (a.heads.q_width, a.hidden_size),
        "ffn_gate": (a.hidden_size, a.intermediate_size), "ffn_up": (a.hidden_size, a.intermediate_size),
        "ffn_down": (a.intermediate_size, a.hidden_size), "attn_norm": (a.hidden_size,), "ffn_norm": (a.hidden_size,),
    }  # fmt: skip
    for layer in range(a.num_hidden_layers):
        for part, shape in expected.items():
            name = f"blk.{layer}.{part}.weight"
            if _shape(gguf, name) != shape:
                raise BadFileError(gguf.path, f"tensor {name!r}",
                                   f"has shape {_shape(gguf, name)}, the header asks for {shape}",
                                   "use a complete model")  # fmt: skip
