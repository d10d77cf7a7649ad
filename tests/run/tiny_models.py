"""Models of every kind of memory, so small that they answer in a millisecond a token: their weights are random.

What they say means nothing, but it depends on every token that they have read, so a memory that was put together
wrongly shows in the log-probabilities at once. Shapes follow llama.cpp's readers of these architectures. The weights
are Q8_0, which is evaluated alike in any portions on x86: answers can be compared to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nomoat.formats.gguf_write import write_gguf
from nomoat.run.quantise import quantise_to_q8_0

__all__ = ["KINDS", "ROUNDED", "WINDOW", "tiny_model"]

WIDTH, INNER, HEADS, HEAD_SIZE = 128, 256, 4, 32
N_VOCAB, CONTEXT = 260, 4096
WINDOW = 32
"""Tokens that a layer with a sliding window looks at."""

_STATE, _RANK, _CONV = 16, 32, 4
_NORM = {"weight": 1.0, "bias": 0.0}
_LOGITS = 4.0  # their standard deviation: the first choice leads by one nat on an average

Tensors = dict[str, NDArray[np.float32]]
Metadata = dict[str, Any]


def tiny_model(kind: str, path: Path, seed: int = 1, floats: bool = False) -> Path:
    """A model of one of `KINDS`, written to `path`; with `floats` its weights are F32."""
    architecture, metadata, tensors = KINDS[kind](_Weights(seed))
    hyperparameters = {
        "context_length": CONTEXT, "embedding_length": WIDTH, "attention.layer_norm_rms_epsilon": 1e-5, **metadata,
    }  # fmt: skip
    named = {f"{architecture}.{key}": value for key, value in hyperparameters.items()}
    content = {"general.architecture": architecture, **named, **_vocabulary()}
    if floats:
        write_gguf(path, content, tensors)
        return path
    source = path.with_suffix(".float")
    write_gguf(source, content, tensors)
    quantise_to_q8_0(source, path, 2)
    source.unlink()
    return path


class _Weights:
    """Random matrices that keep the size of what goes through them."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def matrix(self, outputs: int, inputs: int, scale: float = 1.0) -> NDArray[np.float32]:
        return self.normal((outputs, inputs), scale / np.sqrt(inputs))

    def normal(self, shape: tuple[int, ...], scale: float, mean: float = 0.0) -> NDArray[np.float32]:
        return self._random.normal(mean, scale, shape).astype(np.float32)

    def ends(self, norm: str) -> Tensors:
        """Embeddings, the last norm and the output matrix."""
        return {
            "token_embd.weight": self.normal((N_VOCAB, WIDTH), 1.0),
            f"{norm}.weight": np.ones(WIDTH, np.float32),
            "output.weight": self.matrix(N_VOCAB, WIDTH, _LOGITS),
        }

    def attention(self, block: str, kv_heads: int) -> Tensors:
        return {
            f"{block}.attn_q.weight": self.matrix(HEADS * HEAD_SIZE, WIDTH, 2.0),
            f"{block}.attn_k.weight": self.matrix(kv_heads * HEAD_SIZE, WIDTH, 2.0),
            f"{block}.attn_v.weight": self.matrix(kv_heads * HEAD_SIZE, WIDTH),
            f"{block}.attn_output.weight": self.matrix(WIDTH, HEADS * HEAD_SIZE, 2.0),
            f"{block}.attn_q_norm.weight": np.full(HEAD_SIZE, 1.5, np.float32),
            f"{block}.attn_k_norm.weight": np.full(HEAD_SIZE, 1.5, np.float32),
        }

    def feed_forward(self, block: str) -> Tensors:
        return {
            f"{block}.ffn_norm.weight": np.ones(WIDTH, np.float32),
            f"{block}.ffn_gate.weight": self.matrix(INNER, WIDTH),
            f"{block}.ffn_up.weight": self.matrix(INNER, WIDTH),
            f"{block}.ffn_down.weight": self.matrix(WIDTH, INNER),
        }


# -- the kinds ---------------------------------------------------------------------------------------

Made = tuple[str, Metadata, Tensors]


def _windows(weights: _Weights) -> Made:
    """Gemma 3: five layers with a sliding window, then one without."""
    tensors = weights.ends("output_norm")
    for number in range(6):
        block = f"blk.{number}"
        tensors |= weights.attention(block, 2) | weights.feed_forward(block)
        for norm in ("attn_norm", "post_attention_norm", "post_ffw_norm"):
            tensors[f"{block}.{norm}.weight"] = np.ones(WIDTH, np.float32)
    return "gemma3", {
        "block_count": 6, "feed_forward_length": INNER, "attention.head_count": HEADS, "attention.head_count_kv": 2,
        "attention.key_length": HEAD_SIZE, "attention.value_length": HEAD_SIZE,
        "attention.sliding_window": WINDOW, "rope.freq_base": 1e6,
    }, tensors  # fmt: skip


def _mamba(weights: _Weights) -> Made:
    """Mamba: nothing but a state of fixed size."""
    tensors = weights.ends("output_norm")
    for number in range(4):
        block = f"blk.{number}"
        decay = -np.tile(np.arange(1, _STATE + 1, dtype=np.float32), (INNER, 1))
        tensors |= {
            f"{block}.attn_norm.weight": np.ones(WIDTH, np.float32),
            f"{block}.ssm_in.weight": weights.matrix(2 * INNER, WIDTH, 1.5),
            f"{block}.ssm_conv1d.weight": weights.normal((INNER, _CONV), 0.5),
            f"{block}.ssm_conv1d.bias": weights.normal((INNER,), 0.1),
            f"{block}.ssm_x.weight": weights.matrix(_RANK + 2 * _STATE, INNER, 3.0),
            f"{block}.ssm_dt.weight": weights.matrix(INNER, _RANK, 0.5),
            f"{block}.ssm_dt.bias": weights.normal(
                (INNER,), 1.0, mean=-4.0
            ),  # it forgets within some 50 tokens
            f"{block}.ssm_a": decay,
            f"{block}.ssm_d": np.ones(INNER, np.float32),
            f"{block}.ssm_out.weight": weights.matrix(WIDTH, INNER, 2.0),
        }
    return "mamba", {
        "block_count": 4, "feed_forward_length": 0, "attention.head_count": 0, "ssm.conv_kernel": _CONV,
        "ssm.inner_size": INNER, "ssm.state_size": _STATE, "ssm.time_step_rank": _RANK,
    }, tensors  # fmt: skip


def _rwkv(weights: _Weights) -> Made:
    """RWKV 7: nothing but states, too, one of them the token before."""
    tensors = weights.ends("output_norm")
    tensors["output_norm.bias"] = np.zeros(WIDTH, np.float32)
    tensors |= {
        f"token_embd_norm.{part}": weights.normal((WIDTH,), 0.1, mean) for part, mean in _NORM.items()
    }
    for number in range(3):
        block = f"blk.{number}"
        for norm in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            tensors |= {
                f"{block}.{norm}.{part}": weights.normal((WIDTH,), 0.1, mean) for part, mean in _NORM.items()
            }
        for gate, mean in (("w", -2.0), ("a", 0.0), ("v", 0.0)):
            tensors[f"{block}.time_mix_{gate}0.weight"] = weights.normal((WIDTH,), 1.0, mean)
        for gate in ("w", "a", "v", "g"):
            tensors[f"{block}.time_mix_{gate}1.weight"] = weights.matrix(_RANK, WIDTH)
            tensors[f"{block}.time_mix_{gate}2.weight"] = weights.matrix(WIDTH, _RANK)
        for name in ("key", "value", "receptance", "output"):
            tensors[f"{block}.time_mix_{name}.weight"] = weights.matrix(WIDTH, WIDTH, 2.0)
        for name, mean in (("k_k", 1.0), ("k_a", 1.0), ("r_k", 0.0)):
            tensors[f"{block}.time_mix_{name}.weight"] = weights.normal((WIDTH,), 0.3, mean)
        tensors |= {
            f"{block}.time_mix_lerp_fused.weight": weights.normal((6, 1, 1, WIDTH), 0.3, 0.5),
            f"{block}.channel_mix_lerp_k.weight": weights.normal((1, 1, WIDTH), 0.3, 0.5),
            f"{block}.channel_mix_key.weight": weights.matrix(INNER, WIDTH),
            f"{block}.channel_mix_value.weight": weights.matrix(WIDTH, INNER),
        }
    ranks = {f"attention.{name}_lora_rank": _RANK for name in ("decay", "iclr", "value_residual_mix", "gate")}
    return "rwkv7", {
        "block_count": 3, "feed_forward_length": INNER, "attention.head_count": 0, "wkv.head_size": 64,
        "attention.layer_norm_epsilon": 1e-5, "token_shift_count": 2, **ranks,
    }, tensors  # fmt: skip


def _hybrid(weights: _Weights, window: int = 0) -> Made:
    """LFM2: layers with a short convolution, whose state is recurrent, and layers with attention in turn."""
    tensors = weights.ends("token_embd_norm")
    kv_heads = [0, 2, 0, 2]
    for number, count in enumerate(kv_heads):
        block = f"blk.{number}"
        tensors[f"{block}.attn_norm.weight"] = np.ones(WIDTH, np.float32)
        tensors |= weights.feed_forward(block)
        if count:
            tensors |= weights.attention(block, count)
            continue
        tensors |= {
            f"{block}.shortconv.conv.weight": weights.normal((WIDTH, 3), 0.6),
            f"{block}.shortconv.in_proj.weight": weights.matrix(3 * WIDTH, WIDTH),
            f"{block}.shortconv.out_proj.weight": weights.matrix(WIDTH, WIDTH, 2.0),
        }
    metadata: Metadata = {
        "block_count": 4, "feed_forward_length": INNER, "attention.head_count": HEADS,
        "attention.head_count_kv": kv_heads, "shortconv.l_cache": 3, "rope.freq_base": 1e6,
    }  # fmt: skip
    if window:
        metadata["attention.sliding_window"] = window
    return "lfm2", metadata, tensors


def _delta(weights: _Weights) -> Made:
    """Qwen 3.5: layers with a gated delta net, whose state is recurrent, and layers with attention in turn."""
    tensors, key_heads, value_heads = weights.ends("output_norm"), 2, 4
    values = value_heads * HEAD_SIZE
    channels = 2 * key_heads * HEAD_SIZE + values
    for number in range(4):
        block = f"blk.{number}"
        tensors |= weights.feed_forward(block)
        del tensors[f"{block}.ffn_norm.weight"]
        tensors |= {
            f"{block}.{norm}.weight": np.ones(WIDTH, np.float32)
            for norm in ("attn_norm", "post_attention_norm")
        }
        if number % 2:
            tensors |= weights.attention(block, 2)
            tensors[f"{block}.attn_q.weight"] = weights.matrix(
                2 * HEADS * HEAD_SIZE, WIDTH, 2.0
            )  # with a gate
            continue
        tensors |= {
            f"{block}.attn_qkv.weight": weights.matrix(channels, WIDTH, 2.0),
            f"{block}.attn_gate.weight": weights.matrix(values, WIDTH),
            f"{block}.ssm_conv1d.weight": weights.normal((channels, _CONV), 0.5),
            f"{block}.ssm_dt.bias": weights.normal((value_heads,), 1.0, mean=-4.0),
            f"{block}.ssm_a": -np.ones(value_heads, np.float32),
            f"{block}.ssm_beta.weight": weights.matrix(value_heads, WIDTH),
            f"{block}.ssm_alpha.weight": weights.matrix(value_heads, WIDTH),
            f"{block}.ssm_norm.weight": np.ones(HEAD_SIZE, np.float32),
            f"{block}.ssm_out.weight": weights.matrix(WIDTH, values, 2.0),
        }
    return "qwen35", {
        "block_count": 4, "feed_forward_length": INNER, "attention.head_count": HEADS, "attention.head_count_kv": 2,
        "attention.key_length": HEAD_SIZE, "attention.value_length": HEAD_SIZE, "full_attention_interval": 2,
        "rope.freq_base": 1e6, "rope.dimension_count": HEAD_SIZE, "rope.dimension_sections": [8, 4, 4, 0],
        "ssm.conv_kernel": _CONV, "ssm.inner_size": values, "ssm.state_size": HEAD_SIZE,
        "ssm.time_step_rank": value_heads, "ssm.group_count": key_heads,
    }, tensors  # fmt: skip


def _hybrid_windows(weights: _Weights) -> Made:
    """LFM2 whose attention has a sliding window."""
    return _hybrid(weights, WINDOW)


KINDS: Mapping[str, Callable[[_Weights], Made]] = {
    "windows": _windows, "mamba": _mamba, "hybrid": _hybrid, "hybrid-windows": _hybrid_windows,
    "delta": _delta, "rwkv": _rwkv,
}  # fmt: skip
"""How the models remember, and what writes one."""
ROUNDED = ("rwkv",)
"""Kinds with matrices that llama.cpp leaves as floats: a token alone and with others differ in the last bits."""


def _vocabulary() -> Metadata:
    """A token for each byte, two letters that belong together, and three control tokens."""
    letters = [chr(code if 33 <= code <= 126 else 256 + code) for code in range(256)]
    tokens = [*letters, "th", "<s>", "</s>", "<pad>"]
    return {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": ["t h"],
        "tokenizer.ggml.bos_token_id": 257, "tokenizer.ggml.eos_token_id": 258,
        "tokenizer.ggml.add_bos_token": False,
    }  # fmt: skip
