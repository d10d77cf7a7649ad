"""What the trainer must know of a GGUF's architecture, read from its header; what it cannot train is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
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


# Every tensor that this network uses; a file with any other computes something else.
_KNOWN = re.compile(
    r"token_embd\.weight|output\.weight|output_norm\.weight|rope_freqs\.weight"
    r"|blk\.\d+\.((attn_(q|k|v|output|norm)|ffn_(gate|up|down|norm))\.weight|attn_(q|k|v)\.bias)"
)


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
    hidden_size, heads = _count(gguf, "embedding_length"), _head_shape(gguf)
    architecture = Architecture(
        name=name,
        hidden_size=hidden_size,
        num_hidden_layers=_count(gguf, "block_count"),
        intermediate_size=_count(gguf, "feed_forward_length"),
        vocab_size=_shape(gguf, "token_embd.weight")[-1],
        heads=heads,
        rms_norm_eps=gguf.hyperparameter("attention.layer_norm_rms_epsilon"),
        rope_theta=gguf.hyperparameter("rope.freq_base", 10000.0),
        rotary_dim=_count(gguf, "rope.dimension_count", heads.head_dim),
        context_length=_count(gguf, "context_length"),
        tied_embeddings="output.weight" not in gguf.tensors,
    )
    if architecture.rotary_dim % 2 or architecture.rotary_dim > heads.head_dim:
        raise _bad_figure(gguf, "rope.dimension_count", architecture.rotary_dim)
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
    # llama.cpp takes a factor without a type as linear scaling.
    factors = [gguf.metadata.get(f"{arch}.rope.{key}", 1) for key in ("scaling.factor", "scale_linear")]
    strange = next((name for name in gguf.tensors if not _KNOWN.fullmatch(name)), None)
    unusual = [
        (gguf.metadata.get(f"{arch}.expert_count", 0) != 0, "mixture of experts"),
        (scaling != "none", f"rope scaling {scaling!r}"),
        (scaling == "none" and any(factor not in (0, 1) for factor in factors), "linear rope scaling"),
        (gguf.metadata.get(f"{arch}.attention.causal", True) is not True, "attention that is not causal"),
        (strange is not None, f"tensor {strange!r}, which this architecture usually lacks,"),
    ]
    for present, what in unusual:
        if present:
            raise InputError(f"{gguf.path}: {what} cannot be trained yet", "choose another base model")


def _head_shape(gguf: GGUFFile) -> HeadShape:
    hidden_size, num_heads = _count(gguf, "embedding_length"), _count(gguf, "attention.head_count")
    kv_heads = _count(gguf, "attention.head_count_kv", num_heads)
    if num_heads % kv_heads:
        raise _bad_figure(gguf, "attention.head_count_kv", kv_heads)
    return HeadShape(
        num_heads, kv_heads, _count(gguf, "attention.key_length", max(1, hidden_size // num_heads))
    )


def _count(gguf: GGUFFile, key: str, default: int | None = None) -> int:
    """A hyperparameter that counts something and is the same in every layer."""
    value = gguf.hyperparameter(key, default)
    if isinstance(value, list):
        raise InputError(
            f"{gguf.path}: layers that differ in {key} cannot be trained yet", "choose another base model"
        )
    if not isinstance(value, int) or value <= 0:
        raise _bad_figure(gguf, key, value)
    return value


def _bad_figure(gguf: GGUFFile, key: str, value: object) -> BadFileError:
    place = f"key '{gguf.architecture}.{key}'"
    return BadFileError(gguf.path, place, f"{value!r} cannot be right", "use a complete model in GGUF form")


def _shape(gguf: GGUFFile, name: str) -> tuple[int, ...]:
    if name not in gguf.tensors:
        raise BadFileError(gguf.path, f"tensor {name!r}", "is missing", "use a complete model")
    return gguf.tensors[name].shape


def _check_shapes(gguf: GGUFFile, architecture: Architecture) -> None:
    for name, shape in _expected_shapes(architecture):
        found = _shape(gguf, name)
        if found != shape:
            problem = f"has shape {found}, the header asks for {shape}"
            raise BadFileError(gguf.path, f"tensor {name!r}", problem, "use a complete model")


def _expected_shapes(a: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (a.hidden_size, a.vocab_size)
    yield "output_norm.weight", (a.hidden_size,)
    if not a.tied_embeddings:
        yield "output.weight", (a.hidden_size, a.vocab_size)
    parts: dict[str, tuple[int, ...]] = {
        "attn_q": (a.hidden_size, a.heads.q_width), "attn_k": (a.hidden_size, a.heads.kv_width),
        "attn_v": (a.hidden_size, a.heads.kv_width), "attn_output": (a.heads.q_width, a.hidden_size),
        "ffn_gate": (a.hidden_size, a.intermediate_size), "ffn_up": (a.hidden_size, a.intermediate_size),
        "ffn_down": (a.intermediate_size, a.hidden_size), "attn_norm": (a.hidden_size,), "ffn_norm": (a.hidden_size,),
    }  # fmt: skip
    for layer in range(a.num_hidden_layers):
        for part, shape in parts.items():
            yield f"blk.{layer}.{part}.weight", shape
