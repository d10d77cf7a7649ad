"""A LoRA adapter as one GGUF file, the form that llama.cpp loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nomoat.base.errors import BadFileError
from nomoat.formats.adapter import BASE_DIGEST_KEY, LoraAdapter, check_against_base, head_counts, uniform
from nomoat.formats.ggml_types import GGMLType
from nomoat.formats.gguf_file import GGUFFile, TensorInfo, read_gguf
from nomoat.formats.gguf_write import write_gguf

__all__ = ["read_gguf_lora", "write_gguf_lora"]

_DETAILS = "nomoat.details"
_HEADS, _KV_HEADS = "nomoat.base.head_count", "nomoat.base.head_count_kv"
_CONVERT = "convert the adapter again with llama.cpp's convert_lora_to_gguf.py, or name its PEFT folder"


def write_gguf_lora(adapter: LoraAdapter, path: Path) -> None:
    """Write `adapter` as GGUF in float32, in one step."""
    metadata: dict[str, Any] = {
        "general.architecture": adapter.architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(adapter.lora_alpha),
        BASE_DIGEST_KEY: adapter.base_digest,
        _HEADS: adapter.n_head,
        _KV_HEADS: adapter.n_head_kv,
        _DETAILS: json.dumps(adapter.details, ensure_ascii=False),
    }
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, (a, b) in adapter.modules.items():
        tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"] = a, b
    write_gguf(path, metadata, tensors)


def read_gguf_lora(path: Path, base: GGUFFile | None = None) -> LoraAdapter:
    """Read a GGUF adapter, nomoat's or llama.cpp's; with `base`, check that every pair fits it.

    Raises `BadFileError` where the file is damaged, is no LoRA adapter, or does not fit.
    """
    gguf = read_gguf(path)
    for key, wanted in (("general.type", "adapter"), ("adapter.type", "lora")):
        if gguf.metadata.get(key) != wanted:
            problem = f"is {gguf.metadata.get(key)!r}, not {wanted!r}: this is no LoRA adapter"
            raise BadFileError(path, f"key {key!r}", problem, "name an adapter, not a model")
    alpha = _number(gguf, "adapter.lora.alpha")
    pairs = _pairs(gguf)
    if base is not None:
        if base.architecture != gguf.architecture:
            problem = f"is for {gguf.architecture!r}, the base is {base.architecture!r}"
            raise BadFileError(path, "key 'general.architecture'", problem, "name the adapter's own base")
        check_against_base(pairs, base, path)
    # llama.cpp takes the rank from each tensor's own shape, and no alpha as scale 1.
    parts = {name: (a, b, alpha / a.shape[0] if alpha else 1.0) for name, (a, b) in pairs.items()}
    r, alpha, modules = uniform(parts, alpha)
    n_head, n_head_kv = _heads(gguf, base)
    digest = gguf.metadata.get(BASE_DIGEST_KEY, "")
    return LoraAdapter(digest, gguf.architecture, r, alpha, modules, n_head, n_head_kv, _details(gguf))


def _pairs(gguf: GGUFFile) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    names = {name[: -len(".lora_a")] for name in gguf.tensors if name.endswith((".lora_a", ".lora_b"))}
    strangers = [name for name in gguf.tensors if not name.endswith((".lora_a", ".lora_b", "_norm.weight"))]
    if strangers or not names:
        place = f"tensor {strangers[0]!r}" if strangers else "tensors"
        raise BadFileError(gguf.path, place, "not the pairs .lora_a and .lora_b of an adapter", _CONVERT)
    pairs = {}
    for name in sorted(names):
        a, b = _matrix(gguf, f"{name}.lora_a"), _matrix(gguf, f"{name}.lora_b")
        if a.shape[0] != b.shape[1]:
            problem = f"ranks differ: A is {a.shape}, B is {b.shape}"
            raise BadFileError(gguf.path, f"tensor {name!r}", problem, _CONVERT)
        pairs[name] = (a, b)
    return pairs


def _matrix(gguf: GGUFFile, name: str) -> NDArray[np.float32]:
    info = gguf.tensors.get(name)
    if info is None or len(info.shape) != 2:
        problem = "is missing" if info is None else f"has shape {info.shape}, not two dimensions"
        raise BadFileError(gguf.path, f"tensor {name!r}", problem, _CONVERT)
    values = _floats(gguf, info).reshape(info.shape[::-1])
    if not np.isfinite(values).all():
        raise BadFileError(gguf.path, f"tensor {name!r}", "holds values that are no numbers",
                           "train or download the adapter again")  # fmt: skip
    return values


def _floats(gguf: GGUFFile, info: TensorInfo) -> NDArray[np.float32]:
    raw = np.asarray(gguf.raw(info.name))
    if info.ggml_type == GGMLType.F32:
        return raw.view("<f4").astype(np.float32)
    if info.ggml_type == GGMLType.F16:
        return raw.view("<f2").astype(np.float32)
    if info.ggml_type == GGMLType.BF16:
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    if info.ggml_type == GGMLType.Q8_0:
        blocks = raw.reshape(-1, 34)
        scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
        return (blocks[:, 2:].view(np.int8).astype(np.float32) * scales).ravel()
    problem = f"type {info.ggml_type.name} is not used for adapters"
    raise BadFileError(gguf.path, f"tensor {info.name!r}", problem, _CONVERT)


def _number(gguf: GGUFFile, key: str) -> float:
    value = gguf.metadata.get(key, 0.0)
    if not isinstance(value, float) or not np.isfinite(value):
        raise BadFileError(gguf.path, f"key {key!r}", f"{value!r} is no scale", _CONVERT)
    return value


def _heads(gguf: GGUFFile, base: GGUFFile | None) -> tuple[int, int]:
    if base is not None:
        return head_counts(base)
    counts = [gguf.metadata.get(key, 0) for key in (_HEADS, _KV_HEADS)]
    return (counts[0], counts[1]) if all(isinstance(count, int) for count in counts) else (0, 0)


def _details(gguf: GGUFFile) -> dict[str, Any]:
    try:
        details = json.loads(gguf.metadata.get(_DETAILS, "{}"))
    except (ValueError, TypeError):
        return {}
    return details if isinstance(details, dict) else {}
