"""Names of the same weight in GGUF and in transformers/PEFT, and the order of the q and k rows in each."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PEFT_ARCHITECTURES",
    "gguf_name",
    "hf_name",
    "permute_rows",
    "permuted_heads",
    "unpermute_rows",
]

# GGUF part of a block's weight name -> transformers' module inside a decoder layer
_MODULES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
_PARTS = {module: part for part, module in _MODULES.items()}
_GGUF_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
# The text part of a multimodal model sits one level deeper; older files lack the second "model.".
_HF_LAYER = re.compile(r"(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.(\d+)\.(\w+\.\w+)")

# architecture -> whether llama.cpp's converter permutes q and k (its RoPE turns neighbouring rows)
PEFT_ARCHITECTURES = {"llama": True, "qwen2": False, "qwen3": False, "gemma2": False, "gemma3": False}


def hf_name(name: str) -> str | None:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj`; None where PEFT knows no such module."""
    if name == "output.weight":
        return "lm_head"
    match = _GGUF_BLOCK.fullmatch(name)
    if match is None or match[2] not in _MODULES:
        return None
    return f"model.layers.{match[1]}.{_MODULES[match[2]]}"


def gguf_name(module: str) -> str | None:
    """`model.layers.3.self_attn.q_proj` -> `blk.3.attn_q.weight`; None where GGUF knows no such weight."""
    if module == "lm_head":
        return "output.weight"
    match = _HF_LAYER.fullmatch(module)
    if match is None or match[2] not in _PARTS:
        return None
    return f"blk.{int(match[1])}.{_PARTS[match[2]]}.weight"


def permuted_heads(architecture: str, name: str, n_head: int, n_head_kv: int) -> int:
    """Number of heads whose rows are permuted in the GGUF weight `name`; 0 where rows are as in HF."""
    if not PEFT_ARCHITECTURES.get(architecture, False):
        return 0
    return {"attn_q": n_head, "attn_k": n_head_kv}.get(name.split(".")[-2], 0)


def permute_rows(rows: NDArray[Any], n_head: int) -> NDArray[Any]:
    """HF order `(head, 2, Dh/2)` of the rows `(out, r)` to GGUF's interleaved `(head, Dh/2, 2)`."""
    return _swap(rows, n_head, 2, rows.shape[0] // n_head // 2)


def unpermute_rows(rows: NDArray[Any], n_head: int) -> NDArray[Any]:
    """GGUF's interleaved order of the rows `(out, r)` back to HF order; inverse of `permute_rows`."""
    return _swap(rows, n_head, rows.shape[0] // n_head // 2, 2)


def _swap(rows: NDArray[Any], n_head: int, first: int, second: int) -> NDArray[Any]:
    apart = rows.reshape(n_head, first, second, *rows.shape[1:])
    return np.ascontiguousarray(apart.swapaxes(1, 2)).reshape(rows.shape)
